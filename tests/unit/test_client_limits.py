"""The served model's limits, from its configuration in Triton."""

import pytest

from cocoer_client import ServerError
from cocoer_client.limits import ModelLimits
from export.publishing.configs import cocoer_config


def test_of_the_configuration_that_a_build_writes():
    limits = ModelLimits.from_config(cocoer_config())
    assert limits == ModelLimits(
        max_bytes=32 << 20,
        max_pixels=50_000_000,
        max_persons=512,
        formats=("JPEG", "PNG", "WEBP", "BMP"),
        final_threshold=0.26,
        level_threshold=0.6,
        min_score=0.5,
        on_damage="refuse",
    )


@pytest.mark.parametrize(
    ("value", "message"), [(None, "lacks parameter 'max_pixels'"), ("many", "makes no sense: .*'many'")]
)
def test_of_another_model(value, message):
    config = cocoer_config()
    del config.parameters["max_pixels"]
    if value is not None:
        config.parameters["max_pixels"].string_value = value
    with pytest.raises(ServerError, match=message):
        ModelLimits.from_config(config)
