"""The notebooks that need no network do what they say."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[3] / "examples"


_STEP = "losses.append(loss.item())"
# However slow the notebook is, there is a step amid which it can kill its program.
_WAIT = (
    'import time; time.sleep(600 * (path.name == "killed.pt" '
    "and len(losses) == {1: 25, 3: 45}.get(num_workers, 0)))"
)


def _as_script(notebook: Path) -> str:
    """Return the code cells in order; one that begins with %%writefile writes a file."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    parts = []
    for source in ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"):
        name, _, rest = source.removeprefix("%%writefile ").partition("\n")
        if source.startswith("%%writefile "):
            parts.append(f"Path({name!r}).write_text({rest!r}, encoding='utf-8')")
        else:
            parts.append(re.sub(r"^%.*\n", "", source))
    return "\n\n".join(parts)


@pytest.mark.slow
def test_a_transformer_on_packed_rows_survives_kills(tmp_path: Path) -> None:
    """Killed twice and resumed with other numbers of workers, it has the same bits in the end."""
    pytest.importorskip("matplotlib")
    script = _as_script(EXAMPLES / "17_packed_transformer.ipynb")
    shorter = script
    for old, new in (("NUM_EPOCHS = 6", "NUM_EPOCHS = 1"), (_STEP, f"{_STEP}; {_WAIT}")):
        assert 1 == shorter.count(old)
        shorter = shorter.replace(old, new)

    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", shorter],
        env={**os.environ, "MPLBACKEND": "agg", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert "" == result.stderr
    same = re.findall(r"the same ([a-z -]+): +(True|False)", result.stdout)
    wanted = ["losses", "held-out losses", "weights", "position"]
    assert [(name, "True") for name in wanted] == same
    (kills,) = re.findall(r"after the steps \[(\d+), (\d+)\]", result.stdout)
    assert 0 < int(kills[0]) < int(kills[1])
