"""`sim.kernel.engine`: the words of an engine profile."""

from sim.kernel.engine import AttentionVariant, LaunchMode


def test_the_words_of_a_profile_are_the_values() -> None:
    """A profile's text becomes a mode without a table."""
    assert LaunchMode("cuda_graph") is LaunchMode.CUDA_GRAPH
    assert LaunchMode("stream") is LaunchMode.STREAM
    assert [variant.value for variant in AttentionVariant] == ["naive", "flash", "flash_decoding"]
