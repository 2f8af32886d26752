"""Runs the server on a socket and says where, once it really listens."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

from taxakey.artifacts import kind_of
from taxakey.errors import BadInput, needs_extra
from taxakey.serving.deciding import Rule
from taxakey.serving.limits import Limits

with needs_extra("serve"):
    import uvicorn


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()


def serve(
    bundle: Path | str,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    project: str = "taxakey",
    limits: Limits = Limits(),
    only: str | None = None,
    decide: Rule | None = None,
    costs: str | None = None,
    shares: str | None = None,
    on_ready: Callable[[str], None],
) -> None:
    """Serve a bundle or an ensemble until Ctrl-C or SIGTERM; `on_ready` is called with the address. Port 0: a free one.

    `only`, `decide`, `costs`, `shares`: as for `Identifier.only`, `.deciding` and `.with_shares`, for all requests.

    Raises BadInput for a run that isn't exported yet, and for a port that is taken.
    """
    from taxakey.serving.app import create_app

    bundle = Path(bundle)
    _refuse_a_run(bundle)
    app = create_app(bundle, project=project, limits=limits, only=only, decide=decide, costs=costs, shares=shares)
    listener = _listen(host, port)
    name = f"[{host}]" if ":" in host else host
    address = f"http://{name}:{listener.getsockname()[1]}"
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=5)
    try:
        _Server(config, lambda: on_ready(address)).run(sockets=[listener])
    except KeyboardInterrupt:
        return  # uvicorn has shut down in order and hands the signal on
    finally:
        listener.close()


def _refuse_a_run(folder: Path) -> None:
    trained = any((model / "model.safetensors").is_file() for model in (folder, folder / "model"))
    if trained and kind_of(folder) != "bundle":
        raise BadInput(f"{folder}: not exported yet; run: taxakey export {folder} {folder.resolve().name}-bundle")


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address, family=family, backlog=128)
    except OSError as error:
        raise BadInput(f"can't listen on {host}:{port} ({error.strerror}); choose another --port, or 0 for a free one") from None
