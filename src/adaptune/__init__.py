"""Take a pretrained network to a new domain without wrecking what it already knows."""

from adaptune.ops.batchnorm import describe_batchnorm, hold_batchnorm
from adaptune.ops.conversion import ConversionReport, convert_batchnorm

__all__ = ["ConversionReport", "convert_batchnorm", "describe_batchnorm", "hold_batchnorm"]
