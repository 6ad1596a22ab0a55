"""The command line of our servers of embedding services."""

import argparse

from tests.wire.embedding_service import EmbeddingServer


def main(kind: type[EmbeddingServer], service: str, path: str = "", limits: tuple[str, ...] = ()) -> None:
    """Serve until interrupted, at the path of the address that is told. `limits`: what the service counts."""
    parser = argparse.ArgumentParser(description=f"{kind.__name__} on loopback; its vectors are of words, not meaning.")
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument("--key", help="the only key to accept; without one, any is")
    parser.add_argument("--latency-seconds", type=float, default=0.0)
    for limit in limits:
        parser.add_argument(f"--{limit}-per-minute", type=int)
    parser.add_argument("--burst-seconds", type=float, default=60.0, help="of the limits, to be spent at once")
    parser.add_argument("--cheap", action="store_true", help="vectors by chance: for measuring clients")
    given = vars(parser.parse_args())
    cheap = given.pop("cheap")
    with kind(**given) as server:
        server.cheap = cheap
        print(f"--set embedding.service={service} --set embedding.{service}.base_url={server.url}{path}", flush=True)
        server.wait()
