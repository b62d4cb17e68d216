"""Train an agent, measure what it learned, and talk to it: ``python recipes/quickstart.py``."""

from pathlib import Path

import rlchat


def main(start: str, folder: Path, iterations: int, episodes: int, users: int) -> None:
    """Train ``start`` for some iterations of some episodes, and compare both on some users."""
    config = rlchat.TrainConfig(
        policy=start, run=folder, iterations=iterations, episodes=episodes, evaluation=0
    )
    rlchat.train(config)

    # Users of the dev split, whom training never met; both agents talk to the same ones.
    env = rlchat.make_env("rlchat/Support-v0", split="dev")
    after = rlchat.evaluate(folder, env, episodes=users)
    gain = after.minus(rlchat.evaluate(start, env, episodes=users))["success"]
    print(f"success {after.metrics['success'].mean:.0%}, {gain.mean:+.0%} by training")
    print(f"95% interval of the gain: {gain.low:+.0%} to {gain.high:+.0%}")

    session = rlchat.ChatSession(rlchat.load_agent(folder), env)
    for piece in session.reply("Hello, where is my parcel?"):
        print(piece, end="", flush=True)
    print()


if __name__ == "__main__":
    # The warm-started agent that comes with the package; this takes some minutes on a CPU.
    main("starter:warm-start", Path("runs/quickstart"), iterations=5, episodes=64, users=50)
