// SPDX-License-Identifier: Apache-2.0
// What most system tests start from: a node with an agent, three backends, and clients in the attached cgroup "apps".
#pragma once

#include <gtest/gtest.h>

#include <memory>

#include "tests/support/agent.hpp"
#include "tests/support/client.hpp"
#include "tests/support/identify_server.hpp"

namespace mesh::test {

/// Skips without the real binaries or root; prints the agent's log when a test failed.
class AgentTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = agent_unavailable(); !why.empty()) GTEST_SKIP() << why;
    lab_ = std::make_unique<Lab>();
    node_ = &lab_->add_host("node");
  }

  void TearDown() override {
    if (HasFailure() && agent_) ADD_FAILURE() << "log of the agent:\n" << agent_->log();
    agent_.reset();
    servers_.clear();
    lab_.reset();
  }

  /// Starts servers web1, web2, ... with their default ports.
  void add_servers(int count) {
    for (int i = 0; i < count; ++i) {
      Host& host = lab_->add_host("web" + std::to_string(servers_.size() + 1));
      hosts_.push_back(&host);
      servers_.push_back(std::make_unique<IdentifyServer>(*lab_, host));
    }
  }

  Agent& start_agent(AgentSpec spec) {
    agent_ = std::make_unique<Agent>(*lab_, *node_, std::move(spec));
    agent_->start_healthy();
    return *agent_;
  }

  /// A flow list of endpoints of all servers: `[{address: "10.77.0.2:7000"}, ...]`.
  [[nodiscard]] std::string endpoints(int port, bool v6 = false) const {
    std::string text = "[";
    for (const Host* host : hosts_) {
      text +=
          std::string(text.size() > 1 ? ", " : "") + "{address: \"" + (v6 ? host->v6(port) : host->v4(port)) + "\"}";
    }
    return text + "]";
  }

  SpawnOptions app() { return lab_->on(*node_, "apps"); }

  std::unique_ptr<Lab> lab_;
  Host* node_ = nullptr;
  std::vector<Host*> hosts_;
  std::vector<std::unique_ptr<IdentifyServer>> servers_;
  std::unique_ptr<Agent> agent_;
};

}  // namespace mesh::test
