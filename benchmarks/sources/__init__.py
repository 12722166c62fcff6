"""Sources of data: each module's ``open_source`` gives what opens the data of each ID domain."""
