"""What the ``cocoer`` model does around its two inference calls. Needs NumPy, OpenCV and Pillow alone."""
