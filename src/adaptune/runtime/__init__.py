"""What the machine is: processes, seeds, memory, signals, files."""
