"""What runs came to: scores, summaries, rankings."""
