module hello

// The first Go that compiles for wasip1.
go 1.21
