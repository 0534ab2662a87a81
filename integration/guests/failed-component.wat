;; A WASI 0.2 command that returns an error.
(component
  (core module $program (func (export "run") (result i32) i32.const 1))
  (core instance $instance (instantiate $program))
  (func $run (result (result)) (canon lift (core func $instance "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command)))
