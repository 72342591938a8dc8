"""Nezha, in small files of its format and as it is."""

import csv
import io
import json
import lzma
import tarfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from fedjax_anomaly.data.files import read_raw_file
from fedjax_anomaly.data.load import load
from fedjax_anomaly.data.nezha import load_nezha
from fedjax_anomaly.data.nezha_format import METRICS
from fedjax_anomaly.data.table import Dataset

LATENCY = METRICS.index("PodServerLatencyP99(s)")


def write_pod(day: Path, pod: str, *, load: float = 1.0, minutes: int = 10, latency: list[str] | None = None) -> Path:
    """A sample a minute from 08:00:30 on, with the row's number in `CpuUsage(m)`."""
    start = datetime.fromisoformat(f"{day.name} 08:00:30")
    lines = [",".join(["Time", "TimeStamp", "PodName", *METRICS])]
    for row in range(minutes):
        fields = [str(row), *[str(load)] * (len(METRICS) - 1)]
        fields[LATENCY] = latency[row] if latency else "0.5"
        lines.append(f"{start + timedelta(minutes=row)}.123456 +0000 UTC m=+{row}.1,99,{pod},{','.join(fields)}")
    path = day / "metric" / f"{pod}_metric.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def write_faults(day: Path, *faults: tuple[str, str, str]) -> None:
    """Faults as (time of the day, pod, kind), in lists by hour."""
    hours: dict[str, list[dict[str, str]]] = {}
    for time, pod, kind in faults:
        entry = {"inject_time": f"{day.name} {time}", "inject_timestamp": "0", "inject_pod": pod, "inject_type": kind}
        hours.setdefault(time[:2], []).append(entry)
    (day / f"{day.name}-fault_list.json").write_text(json.dumps(hours))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`rca_data` with two services on two days; the cart's pod is another one on the second day."""
    folder = tmp_path / "nezha" / "rca_data"
    first, second = folder / "2022-08-22", folder / "2022-08-23"
    write_pod(first, "cart-service-579f59597d-wc2lz")
    write_pod(first, "ad-5f6585d649-fnmft")
    write_pod(second, "cart-service-1111111111-aaaaa", minutes=12)
    write_pod(second, "ad-5f6585d649-fnmft")
    (first / "metric" / "front_service.csv").write_text("Time\n1\n")
    write_faults(first)
    write_faults(second, ("08:02:30", "cart-service-1111111111-aaaaa", "cpu_contention"))
    return folder


def pack(folder: Path, suffix: str) -> Path:
    """The folder as the publisher's archive, beside it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(folder, "./rca_data")
    path = folder.parent / f"nezha_metrics.tar{suffix}"
    path.write_bytes(lzma.compress(buffer.getvalue()) if suffix else buffer.getvalue())
    folder.rename(folder.parent / "elsewhere")
    return path


def test_the_last_day_is_tested(folder):
    dataset = load_nezha(folder)
    assert dataset.row_order == "time"
    assert dataset.category_columns == ("source",)
    for table, sizes in ((dataset.train, (10, 10)), (dataset.test, (10, 12))):
        assert table.source.names == ("ad", "cart-service")
        assert np.bincount(table.source.codes).tolist() == list(sizes)
        np.testing.assert_array_equal(table.numeric[:, 0], np.concatenate([np.arange(size) for size in sizes]))
    eight = 8 * 3600.0 + 30
    np.testing.assert_array_equal(dataset.train.time, np.tile(eight + 60 * np.arange(10), 2))
    np.testing.assert_array_equal(dataset.test.time[:10], 86_400 + eight + 60 * np.arange(10))
    for code in (0, 1):
        assert dataset.train.time[dataset.train.source.codes == code].max() < dataset.test.time.min()


def test_five_minutes_of_the_injected_pod_are_anomalous(folder):
    dataset = load_nezha(folder)
    assert not dataset.train.label.any()
    cart = dataset.test.take(dataset.test.source.is_name("cart-service"))
    # Samples at 08:00:30, 08:01:30, ...; the fault starts on the third and is over before the eighth.
    assert cart.attack.strings().tolist() == ["normal"] * 2 + ["cpu_contention"] * 5 + ["normal"] * 5
    assert not dataset.test.take(dataset.test.source.is_name("ad")).label.any()
    assert "5 minutes from an injection on" in dataset.notes[0]


def test_a_missing_latency_is_filled_from_the_past(folder):
    latency = ["", "0.25", "", "NaN", "", "0.75", "", "", "", "0.5"]
    write_pod(folder / "2022-08-22", "ad-5f6585d649-fnmft", latency=latency)
    write_pod(folder / "2022-08-23", "ad-5f6585d649-fnmft", latency=[""] * 10)
    dataset = load_nezha(folder)
    expected = [0, 0.25, 0.25, 0.25, 0.25, 0.75, 0.75, 0.75, 0.75, 0.5]
    np.testing.assert_array_equal(dataset.train.numeric[:10, LATENCY], expected)
    np.testing.assert_array_equal(dataset.test.numeric[:10, LATENCY], np.zeros(10))  # Not from the day before.
    np.testing.assert_array_equal(dataset.train.numeric[:10, 0], np.arange(10))


@pytest.mark.parametrize("suffix", ["", ".xz"])
def test_the_archive_reads_as_the_folder(folder, suffix):
    data_dir = folder.parent.parent
    unpacked = load_nezha(data_dir)
    pack(folder, suffix)
    for place in (data_dir, data_dir / "nezha"):
        archived = load_nezha(place)
        for table, expected in ((archived.train, unpacked.train), (archived.test, unpacked.test)):
            np.testing.assert_array_equal(table.numeric, expected.numeric)
            np.testing.assert_array_equal(table.time, expected.time)
            assert table.attack.strings().tolist() == expected.attack.strings().tolist()


def test_the_folder_is_found_from_above_and_files_may_be_compressed(folder):
    path = folder / "2022-08-22" / "metric" / "ad-5f6585d649-fnmft_metric.csv"
    path.with_name(f"{path.name}.xz").write_bytes(lzma.compress(path.read_bytes()))
    path.unlink()
    sizes = {len(load_nezha(place).train) for place in (folder, folder.parent, folder.parent.parent)}
    assert sizes == {20}


@pytest.mark.parametrize(("suffix", "message"), [("", "cannot be unpacked"), (".xz", "cannot be decompressed")])
def test_a_truncated_archive_is_one_line(folder, suffix, message):
    path = pack(folder, suffix)
    path.write_bytes(path.read_bytes()[: 700 if suffix else 5000])
    with pytest.raises(ValueError, match=rf"^\S+/nezha_metrics\.tar\S* {message}") as error:
        load_nezha(path.parent)
    assert "\n" not in str(error.value)


def test_an_archive_of_something_else_is_refused(folder):
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        path.rename(path.with_suffix(".other"))
    pack(folder, "")
    with pytest.raises(ValueError, match=r"nezha_metrics\.tar holds no metrics"):
        load_nezha(folder.parent)


def test_a_service_with_one_day_is_refused(folder):
    write_pod(folder / "2022-08-23", "new-5f6585d649-fnmft")
    with pytest.raises(ValueError, match=r"^service 'new' of Nezha has metrics of 2022-08-23 only"):
        load_nezha(folder)


def test_two_pods_of_a_service_on_a_day_are_refused(folder):
    write_pod(folder / "2022-08-23", "ad-5f6585d649-other")
    with pytest.raises(ValueError, match=r"^service 'ad' of Nezha has 2 pods on 2022-08-23, but 1 is expected"):
        load_nezha(folder)


def test_a_day_without_faults_must_say_so(folder):
    (folder / "2022-08-22" / "2022-08-22-fault_list.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"^no 2022-08-22-fault_list\.json beside .*IntelligentDDS"):
        load_nezha(folder)


def test_a_fault_in_an_unknown_pod_is_refused(folder):
    write_faults(folder / "2022-08-22", ("08:01:00", "ghost-1-2", "return"))
    with pytest.raises(ValueError, match=r"2022-08-22-fault_list\.json: a fault is in pod 'ghost-1-2', which has no"):
        load_nezha(folder)


@pytest.mark.parametrize("text", ["{", "[]", '{"08": [{}]}', '{"08": [{"inject_time": "soon"}]}'])
def test_what_is_no_list_of_faults_is_refused(folder, text):
    (folder / "2022-08-22" / "2022-08-22-fault_list.json").write_text(text)
    with pytest.raises(ValueError, match=r"2022-08-22-fault_list\.json is not a list of faults \(.*\); get it anew"):
        load_nezha(folder)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("SyscallRead", "Read", "Column 'SyscallRead' in include_columns does not exist"),
        (",0.5,", ",", r"Row #2: Expected 22 columns, got 21"),
        (",0.5,", ",inf,", rf"column '{METRICS[LATENCY].replace('(s)', '')}\(s\)' holds inf in row 2"),
        ("2022-08-22 08:00", "yesterday at 08", r"Error parsing datetime .* in column 'Time'"),
        ("08:04:30", "08:03:30", "the time of row 6 is not after that of row 5"),
    ],
)
def test_a_damaged_file_is_named(folder, old, new, message):
    path = folder / "2022-08-22" / "metric" / "ad-5f6585d649-fnmft_metric.csv"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=rf"^\S+/ad-5f6585d649-fnmft_metric\.csv: .*{message}") as error:
        load_nezha(folder)
    assert "\n" not in str(error.value)


def test_missing_files_are_named_with_the_publisher(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^no nezha_metrics\.tar .*https://github\.com/IntelligentDDS/Nezha"):
        load_nezha(tmp_path)


@pytest.fixture(scope="module")
def real(real_data_dir: Path) -> Dataset:
    return load("nezha", data_dir=real_data_dir)


@pytest.fixture(scope="module")
def real_files(real_data_dir: Path) -> dict[str, bytes]:
    archive = io.BytesIO(read_raw_file(real_data_dir / "nezha" / "nezha_metrics.tar.xz"))
    with tarfile.open(fileobj=archive) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}


def test_the_published_counts_are_met(real, real_files):
    # 112 series of pods on days, 95,660 rows; OnlineBoutique has 10 services and 56 faults, TrainTicket 46 and 45.
    assert len(real.train) + len(real.test) == 95_660
    assert real.train.source.names == real.test.source.names
    systems = Counter(name.startswith("ts-") for name in real.train.source.names)
    assert systems == {False: 10, True: 46}
    faults = [json.loads(text) for name, text in real_files.items() if name.endswith("fault_list.json")]
    assert sum(len(hour) for day in faults for hour in day.values()) == 56 + 45
    for table in (real.train, real.test):
        assert np.bincount(table.source.codes).min() >= 16


def test_the_anomalous_rows_are_those_within_five_minutes_of_a_fault(real, real_files):
    expected = {"train": Counter(), "test": Counter()}
    for day, part in (("2022-08-22", "train"), ("2022-08-23", "test"), ("2023-01-29", "train"), ("2023-01-30", "test")):
        files = {name.rsplit("/", 1)[1]: text for name, text in real_files.items() if day in name}
        kind_of = {}
        for faults in json.loads(files[f"{day}-fault_list.json"]).values():
            for fault in faults:
                start = datetime.fromisoformat(fault["inject_time"]).replace(tzinfo=UTC)
                for row in csv.DictReader(io.StringIO(files[f"{fault['inject_pod']}_metric.csv"].decode())):
                    time = datetime.fromisoformat(row["Time"][:19]).replace(tzinfo=UTC)
                    if start <= time < start + timedelta(minutes=5):
                        kind_of[fault["inject_pod"], row["Time"]] = fault["inject_type"]
        expected[part] += Counter(kind_of.values())
    for part, table in (("train", real.train), ("test", real.test)):
        counts = Counter(table.attack.strings().tolist())
        del counts["normal"]
        assert counts == expected[part]


def test_cpu_faults_show_in_the_rows_that_bear_their_name(real):
    # Independent of the list's times: the injected pod's CPU rises in its own anomalous rows.
    for table in (real.train, real.test):
        for name in set(table.source.strings()[table.attack.is_name("cpu_contention")]):
            own = table.take(table.source.is_name(name))
            cpu = own.numeric[:, METRICS.index("CpuUsage(m)")]
            assert np.median(cpu[own.attack.is_name("cpu_contention")]) > np.quantile(cpu[~own.label], 0.95)
