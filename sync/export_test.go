package syncer

// CreateTables makes the syncer's tables, as the first call that needs them does.
var CreateTables = createTables
