;; Starts threads that have nothing to begin with.
(module
  (import "wasi" "thread-spawn" (func $spawn (param i32) (result i32)))
  (import "env" "memory" (memory 1 1 shared))
  (export "memory" (memory 0))
  (func (export "_start") (drop (call $spawn (i32.const 0)))))
