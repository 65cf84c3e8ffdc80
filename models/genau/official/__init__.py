"""Reading weights of the official GenAu code: names and layouts, no modules."""
