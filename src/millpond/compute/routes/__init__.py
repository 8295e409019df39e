"""The APIs of compute over HTTP."""

from fastapi import APIRouter

from millpond.compute.routes import clusters, commands, policies
from millpond.compute.services import ComputeServices


def compute_router(services: ComputeServices) -> APIRouter:
    """All routes of the room."""
    routes = APIRouter()
    clusters.add(routes, services)
    policies.add(routes, services)
    commands.add(routes, services)
    return routes
