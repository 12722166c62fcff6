"""The methods, by name: the one list. `from adaptune import DANN` is found by its imports."""

from __future__ import annotations

from adaptune.engine.method import Method
from adaptune.methods.adabn import AdaBN as AdaBN
from adaptune.methods.adaptsegnet import AdaptSegNet as AdaptSegNet
from adaptune.methods.alpha_bn import AlphaBN as AlphaBN
from adaptune.methods.dacs import DACS as DACS
from adaptune.methods.daft import DAFT as DAFT
from adaptune.methods.dann import DANN as DANN
from adaptune.methods.datr import DATR as DATR
from adaptune.methods.distill_weighted import DistillWeighted as DistillWeighted
from adaptune.methods.drm import DRM as DRM
from adaptune.methods.ft import FineTune as FineTune
from adaptune.methods.gdcan import GDCAN as GDCAN
from adaptune.methods.glc import GLC as GLC
from adaptune.methods.gprn import GPRN as GPRN
from adaptune.methods.gradual_unfreezing import GradualUnfreezing as GradualUnfreezing
from adaptune.methods.ibn import IBN as IBN
from adaptune.methods.idm import IDM as IDM
from adaptune.methods.kl_dp import KLDP as KLDP
from adaptune.methods.ktf import KTF as KTF
from adaptune.methods.l2_sp import L2SP as L2SP
from adaptune.methods.lftl import LFTL as LFTL
from adaptune.methods.lora import LoRA as LoRA
from adaptune.methods.lp import LinearProbe as LinearProbe
from adaptune.methods.lp_ft import LinearProbeFineTune as LinearProbeFineTune
from adaptune.methods.mcd import MCD as MCD
from adaptune.methods.meta_dmoe import MetaDMoE as MetaDMoE
from adaptune.methods.minent import MinEnt as MinEnt
from adaptune.methods.osuda import OSUDA as OSUDA
from adaptune.methods.pareto_da import ParetoDA as ParetoDA
from adaptune.methods.sam import SAM as SAM
from adaptune.methods.samda import SAMDA as SAMDA
from adaptune.methods.sfda2 import SFDA2 as SFDA2
from adaptune.methods.sfda_seg import SFDASeg as SFDASeg
from adaptune.methods.shot import SHOT as SHOT
from adaptune.methods.smos import SMOS as SMOS
from adaptune.methods.soma import SoMA as SoMA
from adaptune.methods.tent import Tent as Tent
from adaptune.methods.tram import TRAM as TRAM
from adaptune.methods.udim import UDIM as UDIM

METHODS: dict[str, type[Method]] = {
    "ft": FineTune,
    "lp": LinearProbe,
    "lp-ft": LinearProbeFineTune,
    "daft": DAFT,
    "l2-sp": L2SP,
    "gradual-unfreezing": GradualUnfreezing,
    "lora": LoRA,
    "soma": SoMA,
    "sam": SAM,
    "tram": TRAM,
    "ibn": IBN,
    "drm": DRM,
    "udim": UDIM,
    "smos": SMOS,
    "meta-dmoe": MetaDMoE,
    "dann": DANN,
    "gdcan": GDCAN,
    "mcd": MCD,
    "pareto-da": ParetoDA,
    "adaptsegnet": AdaptSegNet,
    "minent": MinEnt,
    "dacs": DACS,
    "idm": IDM,
    "datr": DATR,
    "samda": SAMDA,
    "gprn": GPRN,
    "ktf": KTF,
    "adabn": AdaBN,
    "shot": SHOT,
    "osuda": OSUDA,
    "sfda-seg": SFDASeg,
    "sfda2": SFDA2,
    "glc": GLC,
    "lftl": LFTL,
    "kl-dp": KLDP,
    "distill-weighted": DistillWeighted,
    "alpha-bn": AlphaBN,
    "tent": Tent,
}
