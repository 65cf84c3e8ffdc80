"""These files know the names and layouts of the official GenAu code's weights; they hold no modules."""
