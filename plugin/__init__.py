"""What the analyst sees outside the toolbox: the menu, the set-up of the engine, the documents."""
