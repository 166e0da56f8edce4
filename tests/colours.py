"""How far colours are apart, for all kinds of eyes."""

import numpy as np
from skimage.color import deltaE_ciede2000, rgb2lab

# Machado, Oliveira, Fernandes (2009), severity 1: linear RGB as seen.
BLINDNESS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
    "none": np.eye(3).tolist(),
}


def rgb(colour):
    """``#RRGGBB`` as FP64 [3], from 0 to 1."""
    return np.array([int(colour[index : index + 2], 16) for index in (1, 3, 5)]) / 255


def difference(one, other, kind):
    """CIEDE2000 between two colours as a kind of eyes sees them."""
    seen = [np.clip((rgb(colour) ** 2.2) @ np.array(BLINDNESS[kind]).T, 0, 1) ** (1 / 2.2) for colour in (one, other)]
    return float(deltaE_ciede2000(*map(rgb2lab, seen)))


def contrast(one, other):
    """WCAG's ratio, from 1 to 21."""
    low, high = sorted(float(rgb(colour) ** 2.2 @ [0.2126, 0.7152, 0.0722]) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)
