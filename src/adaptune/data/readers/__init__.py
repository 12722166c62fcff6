"""How folders, tables and tars become listings."""
