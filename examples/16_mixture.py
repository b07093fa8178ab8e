"""Read a mixture whose shares change, resume it on two ranks, and account for its parts."""

import tokenloom as tl

VERSE = "the owl and the pussycat went to sea in a beautiful pea green boat "
PROSE = "once upon a time there were four little rabbits and their names were "


def make_parts() -> dict[str, tl.Corpus]:
    """Return two texts with ids of one tokenizer."""
    tokenizer = tl.Corpus.from_text(VERSE + PROSE, tokenizer="word").tokenizer
    return {
        "verse": tl.Corpus.from_text(VERSE * 300, tokenizer=tokenizer),
        "prose": tl.Corpus.from_text(PROSE * 60, tokenizer=tokenizer),
    }


def make_windows(rank: int = 0, world_size: int = 1) -> tl.RandomWindows:
    """Return this rank's windows: mostly verse, and from token 1,600 on mostly prose."""
    stages = [(0, {"verse": 0.9, "prose": 0.1}), (1600, {"verse": 0.25, "prose": 0.75})]
    mixture = tl.Mixture(make_parts(), stages=stages, num_tokens=3200, max_repeats=4)
    shard = tl.Shard(rank=rank, world_size=world_size)
    return tl.RandomWindows(mixture, batch_size=8, seq_len=10, seed=1, shard=shard)


def main() -> None:
    """Show where the rows of each batch come from."""
    windows = make_windows()
    loader = tl.Loader(windows, num_workers=2)
    names = windows.mixture.names if windows.mixture else ()
    for batch in loader:
        rows = " ".join(names[source] for source in batch.sources)
        if batch.index % 8 == 0:
            print(f"tokens {batch.index * 80:>5,}: {rows}")
        if batch.index == 25:
            break
    state = loader.state_dict()
    print(f"broken off: {state['next_batch']} of {len(loader)} batches")

    ranks = [tl.Loader(make_windows(rank, world_size=2)) for rank in range(2)]
    for each in ranks:
        each.load_state_dict(state)
    first, second = (next(iter(each)) for each in ranks)
    rows = [names[source] for part in (first, second) for source in part.sources]
    print(f"resumed on two ranks: {' '.join(rows)}")

    for name, part in windows.plan.accounting().items():
        print(f"{name}: {part.windows} windows of this epoch, {part.times_read:.2f} times the part")


if __name__ == "__main__":
    main()
