"""Two real tables that every machine has, with judged queries: what the demo searches."""
