"""What this project exists for: layers of agents that answer as one model."""

from moa.mixture.agent import Agent
from moa.mixture.mixture import Mixture
from moa.mixture.schedules.barrier import Barrier
from moa.mixture.schedules.early_exit import EarlyExit
from moa.mixture.schedules.quorum import Quorum
from moa.mixture.schedules.staircase import Staircase

__all__ = ["Agent", "Barrier", "EarlyExit", "Mixture", "Quorum", "Staircase"]
