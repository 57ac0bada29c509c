"""Long checks of the kernels: each is run, and noted in a record that docs/trust.md shows.

    python -m benchmarks.watched fuzz-kernels -- python -m pytest tests/native/test_convolution.py

The command's exit status is that of the check. `make sanitize`, `make sanitize-threads` and
`make fuzz-kernels` run so; `make faults` and `python -m benchmarks.faults --page-only` write the
page.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from benchmarks import pages
from ftwt.tables import of_text

RECORD = pages.RECORDS / "watched.json"


def main() -> int:
    """Run a check and note what came of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", help="the check's name in the record")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        more = [f"--junitxml={report}"] if "pytest" in options.command else []
        code = subprocess.run([*options.command, *more]).returncode
        tests = _tests(report) if report.exists() else {}
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = {
        "passed": code == 0,
        **tests,
        "examples": int(os.environ.get("FTWT_EXAMPLES", 0)) or None,
        "processor_minutes": round((used.ru_utime + used.ru_stime) / 60, 1),
    }
    record = pages.read_object(RECORD) if RECORD.exists() else {}
    pages.write(RECORD, record | {options.name: found})
    return code


def _tests(report: Path) -> dict[str, int]:
    suites = ElementTree.parse(report).getroot().iter("testsuite")
    counts = [{name: int(one.get(name, 0)) for name in ("tests", "skipped")} for one in suites]
    return {name: sum(one[name] for one in counts) for name in ("tests", "skipped")}


def table(record: Mapping[str, Any]) -> str:
    """What came of each check, in Markdown."""
    heads = ("check", "result", "tests", "examples of each law", "processor minutes")
    rows = [
        (
            f"`make {name}`",
            "passed" if one["passed"] else "failed",
            str(one["tests"] - one["skipped"]) if "tests" in one else "",
            f"{one['examples']:,}" if one["examples"] else "",
            f"{one['processor_minutes']:.1f}",
        )
        for name, one in record.items()
    ]
    return of_text(heads, rows).markdown()


if __name__ == "__main__":
    sys.exit(main())
