"""What the ``cocoer`` model does around its two inference calls. Needs NumPy, OpenCV, Pillow and simplejpeg alone."""
