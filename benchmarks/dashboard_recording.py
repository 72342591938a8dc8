"""Records the dashboard in a headless browser, as a telemetry day with faults is replayed through `detect --dashboard`.

The day is that of `live_day.py`: one that the run has not seen. The night before the first frame is replayed at once;
then each frame is a few minutes later: a leak grows in one service until it is an incident, and a flood hits another
one. The last frames show the details of the leak. Needs chromium, chromedriver and `selenium`.
"""

import argparse
import contextlib
import io
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from harness import free_port
from live_replay import simulate, train

from fedjax_anomaly.data.table import Table

SEED = 0
FIRST_FRAME_HOURS, MINUTES_A_FRAME, FRAMES, FRAMES_OF_DETAILS = 6.7, 2, 36, 8
LEAKING = "email-sender"
FRAMES_A_SECOND = 4
REST_MS = 1200
WIDTH, HEIGHT = 1100, 960
ARGUMENTS = (
    *("headless", "no-sandbox", "disable-gpu", "hide-scrollbars", "no-first-run", "disable-sync", "disable-quic"),
    *("disable-background-networking", "disable-component-update"),
)

UNTIL_SHOWN = """
const [shown, done] = arguments;
const look = () => {
  const events = [...document.querySelectorAll("#totals div")].find((node) => node.firstChild.textContent === "Events");
  // The page asks once for what is new, and then for the points of streams that got a chart by that.
  if (events?.textContent.includes(shown)) setTimeout(done, 300);
  else setTimeout(look, 30);
};
look();
"""
"""JavaScript: until the page says that so many events were scored."""


def minutes(table: Table) -> list[str]:
    """The lines of all streams, minute by minute."""
    assert table.source is not None and table.time is not None
    source, lines = table.source.strings(), []
    for time_now in np.unique(table.time):
        for row in np.flatnonzero(table.time == time_now):
            fields = {"stream": str(source[row]), "time": float(time_now)}
            fields |= dict(zip(table.numeric_names, table.numeric[row].tolist(), strict=True))
            lines.append(json.dumps(fields))
    streams = len(table.source.names)
    return ["".join(f"{line}\n" for line in lines[i : i + streams]) for i in range(0, len(lines), streams)]


@contextlib.contextmanager
def detector(run: Path, folder: Path) -> Iterator[tuple[TextIO, str]]:
    """A detector that follows a file; gives the file, to be written to, and the dashboard's URL."""
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "fedjax_anomaly.detect", f"--run={run}", f"--output_dir={folder / 'live'}"]
    command += [f"--source={folder / 'day.jsonl'}", f"--dashboard={address}"]
    with (folder / "day.jsonl").open("w") as file:
        process = subprocess.Popen(command)
        try:
            yield file, f"http://{address}/"
        finally:
            process.terminate()
            process.wait(60)


def wait_for(url: str, events: int, seconds: float = 120.0) -> None:
    """Until the detector has scored so many."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}state", timeout=5) as answer:
            if json.load(answer)["counts"]["scored"] >= events:
                return
        time.sleep(0.05)
    raise TimeoutError(f"{events} events were not scored within {seconds} s.")


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[Any]:
    """A headless one of the page's size."""
    from selenium import webdriver

    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        raise FileNotFoundError("chromium and chromedriver are needed (Debian: chromium, chromium-driver).")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in (*ARGUMENTS, f"user-data-dir={folder / 'browser'}"):
        options.add_argument(f"--{argument}")
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        yield browser
    finally:
        browser.quit()


def record(run: Path, folder: Path, num_frames: int) -> list[bytes]:
    """The frames, as PNG; the details of the leak come after `num_frames`."""
    lines = minutes(simulate(SEED).table)
    streams, frames = lines[0].count("\n"), []
    (folder / "telemetry").symlink_to(run.absolute())  # The page shows the name of the run's folder.
    with detector(folder / "telemetry", folder) as (file, url), browser(folder) as page:
        at = int(60 * FIRST_FRAME_HOURS)
        file.write("".join(lines[:at]))
        file.flush()
        wait_for(url, streams * at)
        page.get(url)
        for frame in range(num_frames + FRAMES_OF_DETAILS):
            file.write("".join(lines[at : at + MINUTES_A_FRAME]))
            file.flush()
            at += MINUTES_A_FRAME
            wait_for(url, streams * at)
            if frame == num_frames:
                page.find_element("xpath", f"//*[@id='list']//button[contains(., '{LEAKING}')]").click()
            page.execute_async_script(UNTIL_SHOWN, f"{streams * at:,}")
            frames.append(page.get_screenshot_as_png())
    return frames


def animate(frames: list[bytes], path: Path) -> None:
    """Writes an animated WebP that goes round for ever, with a rest at its end."""
    from PIL import Image

    images = [Image.open(io.BytesIO(frame)).convert("RGB") for frame in frames]
    # Fewer colours without loss keep letters sharp, and take less than a lossy film.
    octree = Image.Quantize.FASTOCTREE
    flat = [image.quantize(method=octree, dither=Image.Dither.NONE).convert("RGB") for image in images]
    durations = [1000 // FRAMES_A_SECOND] * (len(flat) - 1) + [REST_MS]
    path.parent.mkdir(parents=True, exist_ok=True)
    flat[0].save(path, save_all=True, append_images=flat[1:], duration=durations, loop=0, lossless=True, method=6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--run", type=Path, help="a trained run of the telemetry preset; trains one where none is given"
    )
    parser.add_argument("--output", type=Path, default=Path("docs/images/dashboard.webp"))
    parser.add_argument("--quick", action="store_true", help="few frames of a briefly trained model")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = arguments.run or train(SEED, Path(folder), quick=arguments.quick)
        frames = record(run, Path(folder), num_frames=2 if arguments.quick else FRAMES)
    animate(frames, arguments.output)
    print(f"{arguments.output}: {len(frames)} frames, {arguments.output.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
