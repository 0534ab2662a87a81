;; A WASI 0.2 command that traps.
(component
  (core module $program
    (func $inner unreachable)
    (func $outer call $inner)
    (func (export "run") (result i32) call $outer i32.const 0))
  (core instance $instance (instantiate $program))
  (func $run (result (result)) (canon lift (core func $instance "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command)))
