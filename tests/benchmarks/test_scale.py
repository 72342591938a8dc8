import pytest
from scale import Pieces, contestants, estimate


def test_the_estimate_adds_up():
    """200 clients of 8 kB train in 0.1 s and are gathered in 0.01 s; the model has 1 MB, a link carries 1 GB/s."""
    pieces = Pieces(200, round_seconds=0.1, gather_seconds=0.01, client_bytes=8e3, parameter_bytes=10**6)
    network = {"link_bytes_per_second": 1e9, "hop_seconds": 1e-3}
    four = estimate(pieces, num_clients=10**6, num_devices=4, devices_per_host=2, **network)
    # A ring of 4: 6 steps of 1 ms, and 6/4 of 1 MB over 1 GB/s. Two devices are gathered for in 0.02 s, meanwhile.
    assert four["sum of the updates, s"] == pytest.approx(6e-3 + 1.5e-3)
    assert four["rounds per second"] == pytest.approx(1.0 / 0.1075)
    assert four["all clients once, s"] == pytest.approx(1250 * 0.1075)  # 10^6 over 4 x 200.
    assert four["memory of each host for the clients, GB"] == pytest.approx(8.0)
    # 16 devices need 0.16 s, which training does not cover any more.
    one_host = estimate(pieces, num_devices=16, devices_per_host=16, **network)
    assert one_host["rounds per second"] == pytest.approx(1.0 / (0.16 + 30e-3 + 30e-3 / 16))


@pytest.mark.parametrize("cores", [1, 2, 5, 64])
def test_every_contestant_has_clients_to_draw_from_and_devices_for_each_process(cores, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    for contestant in contestants(quick=False).values():
        assert contestant.cohort <= contestant.clients
        assert contestant.devices % contestant.processes == 0
        assert contestant.devices >= contestant.processes
