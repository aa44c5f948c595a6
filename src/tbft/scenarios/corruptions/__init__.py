"""Corruptions of pictures: the nineteen of CIFAR-10-C and ImageNet-C.

Source: Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations" (ICLR 2019), scripts ``make_cifar_c.py`` and ``make_imagenet_c.py``. Pictures with a
shorter side of up to 64 pixels get the constants of the first script, larger ones those of the second.

Importing this package registers them. Most need only NumPy and Pillow. Those that smooth, enlarge or find
edges need SciPy, and frost needs the official textures from the package ``imagecorruptions``; both are in the
extra ``corruptions``. OpenCV, scikit-image and ImageMagick, which the scripts use, are not needed.
"""

from tbft.scenarios.corruptions.blur import defocus_blur, gaussian_blur, glass_blur, motion_blur, zoom_blur
from tbft.scenarios.corruptions.digital import brightness, contrast, jpeg_compression, pixelate, saturate
from tbft.scenarios.corruptions.elastic import elastic_transform
from tbft.scenarios.corruptions.liquid import spatter
from tbft.scenarios.corruptions.noise import gaussian_noise, impulse_noise, shot_noise, speckle_noise
from tbft.scenarios.corruptions.weather import fog, frost, snow

__all__ = [
    "brightness",
    "contrast",
    "defocus_blur",
    "elastic_transform",
    "fog",
    "frost",
    "gaussian_blur",
    "gaussian_noise",
    "glass_blur",
    "impulse_noise",
    "jpeg_compression",
    "motion_blur",
    "pixelate",
    "saturate",
    "shot_noise",
    "snow",
    "spatter",
    "speckle_noise",
    "zoom_blur",
]
