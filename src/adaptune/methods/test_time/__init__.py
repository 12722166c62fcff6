"""Methods that adapt to a stream while they answer."""
