#!/usr/bin/env node
/**
 * The command line `effect-smtp`.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as TerminalCapabilities from "effect/cli/TerminalCapabilities"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Runtime from "effect/Runtime"
import * as NodeConnector from "../node/NodeConnector.ts"
import { ExitCode } from "./frame.ts"
import { execute } from "./program.ts"

const services = Layer.mergeAll(
  NodeConnector.layer,
  Layer.provideMerge(TerminalCapabilities.layer, NodeServices.layer)
)

/** A server that was interrupted has ended as it should, and left its own code. */
const teardown: Runtime.Teardown = (exit, onExit) =>
  Runtime.defaultTeardown(
    exit,
    (code) => onExit(code === ExitCode.interrupted ? Number(process.exitCode ?? code) : code)
  )

execute.pipe(Effect.provide(services), NodeRuntime.runMain({ teardown }))
