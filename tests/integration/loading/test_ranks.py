"""Real process groups: several processes that share the rows of each batch."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tokenloom as tl
from tests.support.loading.loading_ranks import evaluation, make_windows, read

SCRIPT = Path(__file__).parents[2] / "support/loading/loading_ranks.py"
ROOT = SCRIPT.parents[3]
SECONDS = 240
WHOLE = read(make_windows())


def run_ranks(folder: Path, how: str, world_size: int) -> list[Any]:
    """Run some processes in one group and return what each wrote down."""
    program = (sys.executable, "-W", "ignore")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [*program, str(SCRIPT), str(folder), how, str(rank), str(world_size)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world_size)
    ]
    try:
        for process in processes:
            _, messages = process.communicate(timeout=SECONDS)
            assert process.returncode == 0, messages
    finally:
        for process in processes:
            process.kill()
    return read_results(folder, world_size)


def read_results(folder: Path, world_size: int) -> list[Any]:
    """Return what each rank wrote down."""
    files = [folder / f"{rank}.json" for rank in range(world_size)]
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def side_by_side(parts: list[Any]) -> list[Any]:
    """Put the ranks' rows of each batch together."""
    return [
        [batch[0][0], batch[0][1], [row for _, _, rows in batch for row in rows]]
        for batch in zip(*parts, strict=True)
    ]


def check_group(results: list[Any]) -> None:
    """Check all that the processes of a group read."""
    for way in ("alone", "spawned", "loader"):
        assert side_by_side([result[way] for result in results]) == WHOLE
    states = [result["state"] for result in results]
    assert states[0] == states[1]
    assert side_by_side([result["resumed"] for result in results]) == WHOLE[7:]
    # What two ranks saved, one process without workers goes on from.
    alone = tl.Loader(make_windows())
    alone.load_state_dict(states[0])
    assert read(alone) == WHOLE[7:]


def test_a_process_group_divides_the_rows(tmp_path: Path) -> None:
    """Two ranks of a real group find their parts, and their workers know them."""
    check_group(run_ranks(tmp_path, "group", 2))


@pytest.mark.slow
def test_torchruns_variables_divide_the_rows(tmp_path: Path) -> None:
    """Under torchrun the same holds without a process group."""
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone"]
    subprocess.run(
        [*command, "--nproc-per-node=2", str(SCRIPT), str(tmp_path), "environment"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        timeout=SECONDS,
    )
    check_group(read_results(tmp_path, 2))


@pytest.mark.slow
def test_a_subgroup_divides_the_rows(tmp_path: Path) -> None:
    """Four processes in two groups read the whole stream twice."""
    results = [result["alone"] for result in run_ranks(tmp_path, "subgroup", 4)]
    assert [WHOLE, WHOLE] == [side_by_side(results[:2]), side_by_side(results[2:])]


@pytest.mark.slow
def test_a_mesh_divides_the_rows_along_its_data_parallel_dimensions(tmp_path: Path) -> None:
    """Processes that differ in another dimension only read the same, one or two apart."""
    results = run_ranks(tmp_path, "mesh", 4)
    places = {
        "dp tp": [0, 0, 1, 1],
        "pp dp_shard": [0, 1, 0, 1],
        "dp_replicate dp_shard": [0, 1, 2, 3],
        "dp_replicate dp_shard cp": [0, 0, 1, 1],
        "dp_replicate dp_shard tp": [0, 0, 1, 1],
        "dp_replicate dp_shard tp_1": [0, 1, 2, 3],
    }
    assert {*places, "untidy"} == set(results[0])
    for names, ranks in places.items():
        found = [result[names] for result in results]
        number = max(ranks) + 1
        assert [[rank, number] for rank in ranks] == [each["shard"] for each in found]
        for way in ("alone", "spawned"):
            parts = {rank: each[way] for rank, each in zip(ranks, found, strict=True)}
            assert side_by_side([parts[rank] for rank in range(number)]) == WHOLE
            assert [parts[rank] for rank in ranks] == [each[way] for each in found]
        is_refused = names != "dp_replicate dp_shard"
        assert all(("mesh['dp']" in each["refused"]) == is_refused for each in found)
    for result in results:
        assert "3 of 4 ranks read part 1 of 2, 1 rank part 0 of 2" in result["untidy"]


@pytest.mark.slow
def test_windows_that_were_used_before_the_group_are_refused(tmp_path: Path) -> None:
    """Otherwise each rank would read the whole batch."""
    for rank, result in enumerate(run_ranks(tmp_path, "late", 2)):
        assert "belong to rank 0 of 1, as was detected when they" in result["error"]
        assert f"but this is rank {rank} of 2" in result["error"]
        assert result["error"] == result["in worker"]


@pytest.mark.slow
def test_windows_that_a_launcher_gave_to_its_ranks_are_refused(tmp_path: Path) -> None:
    """They were made before there was a group, and would be read whole by every rank."""
    run_ranks(tmp_path, "spawned", 1)
    for rank in range(2):
        errors = json.loads((tmp_path / f"spawned-{rank}.json").read_text(encoding="utf-8"))
        assert [f"this is rank {rank} of 2" in error for error in errors] == [True, True]


@pytest.mark.slow
def test_windows_of_another_rank_are_refused(tmp_path: Path) -> None:
    """A pickle of rank 0 is read by rank 0 only, also by its workers."""
    first, second = run_ranks(tmp_path, "foreign", 2)
    assert ["", ""] == list(first.values())
    for message in second.values():
        assert "belong to rank 0 of 2" in message
        assert "this is rank 1 of 2: make the windows in each process" in message


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_the_loss_of_a_corpus_is_the_same_for_every_world_size(
    world_size: int, tmp_path: Path
) -> None:
    """Each rank has the number of the whole, also where there is no work for it."""
    expected = [
        [num_tokens, pytest.approx(nats, rel=1e-6)] for num_tokens, nats in evaluation(tmp_path)
    ]
    for result in run_ranks(tmp_path, "evaluation", world_size):
        assert result == expected
