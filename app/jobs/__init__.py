"""Long work beside the pages: a queue, a worker process that owns the models, `steer` commands, and their event streams."""
