module mock

go 1.19
