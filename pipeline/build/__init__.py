"""How it is built: a driver runs passes of stages over the plan and commits what the writers propose."""
