"""consul_locker.aio: the face for asyncio."""
