"""How data moves: plan, graph, dataset, training and the command line."""
