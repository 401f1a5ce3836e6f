"""Random models of `transformers` by family: what parity fixtures hold and the live parity tests compare with."""

from tests.models.peers.making import Setting, make
from tests.models.peers.settings import PEERS

__all__ = ["PEERS", "Setting", "make"]
