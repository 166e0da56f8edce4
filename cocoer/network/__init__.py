"""CocoER's network, a module for each part of the paper's figure. Imports PyTorch and nothing else.

``model`` puts the parts together: ``levels`` (trunk of ``resnet``, ``position``, ``attention``), ``vi_head`` (on
``clip_visual``), ``coordination`` (with ``simplex``) and ``fusion``. ``architecture`` has their sizes, ``normalise``
what pixels become before they enter.
"""
