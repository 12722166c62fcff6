"""What writes texts: language models that the user names, and records of what they wrote."""
