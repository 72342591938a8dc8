"""Which settings of where a run's data and processes are go together; what cannot work is refused with the reason."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedjax_anomaly.config import Config


def check_machines(config: "Config") -> None:
    """Checks where the clients' windows stay, and the settings of a run of many processes.

    Args:
      config: the settings.

    Raises:
      ValueError: naming the setting, its value and the way out.
    """
    _check_client_data(config)
    _check_processes(config)


def check_divisible(config: "Config") -> None:
    """Raises ValueError for a run that cannot be divided over processes."""
    alone = {
        f"method={config.method}": config.method not in ("federated", "local_only"),
        "more than one seed or swept value": len(config.members()) > 1,
    }
    for name, given in alone.items():
        if given:
            raise ValueError(
                f"many processes divide the clients of one run, which {name} does not allow; leave "
                "--coordinator_address out."
            )


def _check_client_data(config: "Config") -> None:
    if config.client_data == "device":
        return
    needs_all = {
        f"method={config.method}": config.method != "federated",
        "clients_per_round=0": config.clients_per_round == 0,
        "client_sampling=poisson, which keeps a place for every client,": config.client_sampling == "poisson",
        "clustering=ifca, which asks every client for its model after each round,": config.clustering == "ifca",
        "more than one seed or swept value": len(config.members()) > 1,
    }
    for name, given in needs_all.items():
        if given:
            raise ValueError(
                f"client_data=host is for cohorts of some of the clients, but {name} needs all on the device; "
                "give --client_data=device."
            )


def _check_processes(config: "Config") -> None:
    address, count, number = config.coordinator_address, config.num_processes, config.process_id
    if not address:
        for name in ("num_processes", "process_id"):
            if config.is_changed(name):
                raise ValueError(
                    f"{name}={getattr(config, name)} has no effect without coordinator_address; give "
                    "--coordinator_address=HOST:PORT, or auto."
                )
        return
    host, _, port = address.rpartition(":")
    if address != "auto" and not (host and port.isdecimal() and 0 < int(port) < 2**16):
        raise ValueError(f"coordinator_address={address!r} must be HOST:PORT, with a port of 1 to 65535, or auto.")
    if address != "auto" and (count == 0 or number == -1):
        raise ValueError(
            f"coordinator_address={address} needs to know how many processes there are and which one this is; give "
            "--num_processes and --process_id."
        )
    if count and number >= count:
        raise ValueError(f"process_id={number} must lie between 0 and num_processes - 1 = {count - 1}.")
    check_divisible(config)
