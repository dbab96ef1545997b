"""The memory service's OAuth endpoints alone: without the memories, which need a model. Runs in its own environment."""

import os

import uvicorn
from fastapi import FastAPI  # type: ignore[import-not-found]
from mcp_memory_service.web.oauth import authorization, registration  # type: ignore[import-not-found]

if __name__ == "__main__":
    app = FastAPI()
    app.include_router(registration.router)
    app.include_router(authorization.router)
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]))
