"""CocoER (Shen et al., CVPR 2025) in PyTorch: the network alone, exact, folded and batched."""

from cocoer.labels import EMOTIC_LABELS, LEVELS

__version__ = "0.1.0"

__all__ = ["EMOTIC_LABELS", "LEVELS", "__version__"]
