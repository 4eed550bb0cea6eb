"""`sim.measure.probe`: what a probe is told."""

from sim.measure.probe import Probe, RecordingProbe, Service


def test_a_recording_probe_keeps_every_service_in_order() -> None:
    """Nothing is merged, nothing is dropped."""
    recorder = RecordingProbe()
    probe: Probe = recorder
    probe.served("l2", 10, 20, 4096)
    probe.served("hbm0", 5, 6, 0)
    probe.served("l2", 10, 20, 4096)
    assert recorder.services == [
        Service("l2", 10, 20, 4096),
        Service("hbm0", 5, 6, 0),
        Service("l2", 10, 20, 4096),
    ]


def test_probes_do_not_share_what_they_keep() -> None:
    """Two runs in one process are told apart."""
    first, second = RecordingProbe(), RecordingProbe()
    first.served("l2", 0, 1, 1)
    assert second.services == []


def test_a_service_has_names_for_its_fields() -> None:
    """Timelines read them by name."""
    service = Service("sm0.pipe", 1, 3, 2)
    assert (service.server, service.start_ps, service.end_ps, service.amount) == (
        "sm0.pipe", 1, 3, 2,
    )  # fmt: skip
