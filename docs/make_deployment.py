"""Writes the tables of limits and routes in docs/deployment.md from the code: ``make deployment``."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from app.access.deployment import limits_table  # noqa: E402
from app.access.routes import routes_table  # noqa: E402
from app.login.settings import login_table  # noqa: E402
from app.server.audit import acts_table  # noqa: E402
from app.server.dicom_archive import archive_table  # noqa: E402

PAGE = Path(__file__).with_name("deployment.md")
TABLES = {
    "limits": limits_table,
    "routes": routes_table,
    "login": login_table,
    "acts": acts_table,
    "archive": archive_table,
}


def written(text: str) -> str:
    """The page with its tables as the code has them."""
    for name, table in TABLES.items():
        begin, end = f"<!-- {name} from the code -->", f"<!-- end of {name} -->"
        before, _, rest = text.partition(begin)
        _, mark, after = rest.partition(end)
        if not mark:
            raise SystemExit(f"{PAGE.name} has no place for {name}")
        text = f"{before}{begin}\n{table()}\n{end}{after}"
    return text


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
