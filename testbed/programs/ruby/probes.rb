# Ruby's probes of methods that are written in Ruby are passed only while something traces calls.
TracePoint.new(:call, :return) {}.enable
