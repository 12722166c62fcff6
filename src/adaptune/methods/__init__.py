"""The methods, by name: the one list. `from adaptune import DANN` is found by its imports."""

from __future__ import annotations

from adaptune.engine.method import Method
from adaptune.methods.few_shot.dafos import DAFOS as DAFOS
from adaptune.methods.few_shot.ditfend import DITFEND as DITFEND
from adaptune.methods.few_shot.gprn import GPRN as GPRN
from adaptune.methods.few_shot.samda import SAMDA as SAMDA
from adaptune.methods.generalisation.deco import DECO as DECO
from adaptune.methods.generalisation.dlif import DLIF as DLIF
from adaptune.methods.generalisation.drm import DRM as DRM
from adaptune.methods.generalisation.fedavg import FedAvg as FedAvg
from adaptune.methods.generalisation.group_dro import GroupDRO as GroupDRO
from adaptune.methods.generalisation.iadg import IADG as IADG
from adaptune.methods.generalisation.ibn import IBN as IBN
from adaptune.methods.generalisation.meta_dmoe import MetaDMoE as MetaDMoE
from adaptune.methods.generalisation.mixstyle import MixStyle as MixStyle
from adaptune.methods.generalisation.smos import SMOS as SMOS
from adaptune.methods.generalisation.udim import UDIM as UDIM
from adaptune.methods.semi_supervised.distill_weighted import DistillWeighted as DistillWeighted
from adaptune.methods.semi_supervised.ktf import KTF as KTF
from adaptune.methods.source_free.adabn import AdaBN as AdaBN
from adaptune.methods.source_free.glc import GLC as GLC
from adaptune.methods.source_free.lftl import LFTL as LFTL
from adaptune.methods.source_free.osuda import OSUDA as OSUDA
from adaptune.methods.source_free.sfda2 import SFDA2 as SFDA2
from adaptune.methods.source_free.sfda_seg import SFDASeg as SFDASeg
from adaptune.methods.source_free.shot import SHOT as SHOT
from adaptune.methods.supervised.clip import CLIP as CLIP
from adaptune.methods.supervised.cocoop import CoCoOp as CoCoOp
from adaptune.methods.supervised.coop import CoOp as CoOp
from adaptune.methods.supervised.cwcl import CWCL as CWCL
from adaptune.methods.supervised.daft import DAFT as DAFT
from adaptune.methods.supervised.ear import EAR as EAR
from adaptune.methods.supervised.flyp import FLYP as FLYP
from adaptune.methods.supervised.ft import FineTune as FineTune
from adaptune.methods.supervised.gradual_unfreezing import GradualUnfreezing as GradualUnfreezing
from adaptune.methods.supervised.l2_sp import L2SP as L2SP
from adaptune.methods.supervised.lora import LoRA as LoRA
from adaptune.methods.supervised.lp import LinearProbe as LinearProbe
from adaptune.methods.supervised.lp_ft import LinearProbeFineTune as LinearProbeFineTune
from adaptune.methods.supervised.m2_mix import M2Mix as M2Mix
from adaptune.methods.supervised.mixup import Mixup as Mixup
from adaptune.methods.supervised.sam import SAM as SAM
from adaptune.methods.supervised.soma import SoMA as SoMA
from adaptune.methods.supervised.tip_adapter import TipAdapter as TipAdapter
from adaptune.methods.supervised.tram import TRAM as TRAM
from adaptune.methods.teachers.kl_dp import KLDP as KLDP
from adaptune.methods.teachers.plug_and_play import PlugAndPlay as PlugAndPlay
from adaptune.methods.teachers.trans_lora import TransLoRA as TransLoRA
from adaptune.methods.test_time.alpha_bn import AlphaBN as AlphaBN
from adaptune.methods.test_time.cotta import CoTTA as CoTTA
from adaptune.methods.test_time.eata import EATA as EATA
from adaptune.methods.test_time.lame import LAME as LAME
from adaptune.methods.test_time.sar import SAR as SAR
from adaptune.methods.test_time.t3a import T3A as T3A
from adaptune.methods.test_time.tent import Tent as Tent
from adaptune.methods.test_time.tpt import TPT as TPT
from adaptune.methods.test_time.vida import ViDA as ViDA
from adaptune.methods.unsupervised.adaptsegnet import AdaptSegNet as AdaptSegNet
from adaptune.methods.unsupervised.cdan import CDAN as CDAN
from adaptune.methods.unsupervised.coral import CORAL as CORAL
from adaptune.methods.unsupervised.cpt_uda import CPTUDA as CPTUDA
from adaptune.methods.unsupervised.dacs import DACS as DACS
from adaptune.methods.unsupervised.dann import DANN as DANN
from adaptune.methods.unsupervised.datr import DATR as DATR
from adaptune.methods.unsupervised.fedka import FedKA as FedKA
from adaptune.methods.unsupervised.gdcan import GDCAN as GDCAN
from adaptune.methods.unsupervised.idm import IDM as IDM
from adaptune.methods.unsupervised.mcd import MCD as MCD
from adaptune.methods.unsupervised.memspm import MemSPM as MemSPM
from adaptune.methods.unsupervised.minent import MinEnt as MinEnt
from adaptune.methods.unsupervised.pareto_da import ParetoDA as ParetoDA
from adaptune.methods.unsupervised.san import SAN as SAN
from adaptune.methods.unsupervised.zscl import ZSCL as ZSCL

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
    "mixup": Mixup,
    "clip": CLIP,
    "cwcl": CWCL,
    "m2-mix": M2Mix,
    "group-dro": GroupDRO,
    "ear": EAR,
    "flyp": FLYP,
    "coop": CoOp,
    "cocoop": CoCoOp,
    "tip-adapter": TipAdapter,
    "ibn": IBN,
    "drm": DRM,
    "udim": UDIM,
    "smos": SMOS,
    "meta-dmoe": MetaDMoE,
    "mixstyle": MixStyle,
    "iadg": IADG,
    "dlif": DLIF,
    "deco": DECO,
    "fedavg": FedAvg,
    "dann": DANN,
    "cdan": CDAN,
    "coral": CORAL,
    "cpt-uda": CPTUDA,
    "gdcan": GDCAN,
    "mcd": MCD,
    "pareto-da": ParetoDA,
    "san": SAN,
    "memspm": MemSPM,
    "zscl": ZSCL,
    "fedka": FedKA,
    "adaptsegnet": AdaptSegNet,
    "minent": MinEnt,
    "dacs": DACS,
    "idm": IDM,
    "datr": DATR,
    "samda": SAMDA,
    "gprn": GPRN,
    "dafos": DAFOS,
    "ditfend": DITFEND,
    "ktf": KTF,
    "adabn": AdaBN,
    "shot": SHOT,
    "osuda": OSUDA,
    "sfda-seg": SFDASeg,
    "sfda2": SFDA2,
    "glc": GLC,
    "lftl": LFTL,
    "kl-dp": KLDP,
    "plug-and-play": PlugAndPlay,
    "trans-lora": TransLoRA,
    "distill-weighted": DistillWeighted,
    "alpha-bn": AlphaBN,
    "tent": Tent,
    "t3a": T3A,
    "lame": LAME,
    "eata": EATA,
    "sar": SAR,
    "cotta": CoTTA,
    "vida": ViDA,
    "tpt": TPT,
}
