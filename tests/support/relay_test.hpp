// SPDX-License-Identifier: Apache-2.0
// What tests of the relay start from: an agent, a relay beside it, two servers, a host of clients and an authority.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/agent_test.hpp"
#include "tests/support/certificate.hpp"
#include "tests/support/relay.hpp"

namespace mesh::test {

/// With certificates of shop.test and cart.test; prints the relay's log when a test failed.
class RelayTest : public AgentTest {
 protected:
  void SetUp() override {
    AgentTest::SetUp();
    if (!lab_) return;
    if (!have_program("curl")) GTEST_SKIP() << "SKIPPED: curl is not installed";
    add_servers(2);
    clients_ = &lab_->add_host("clients");
    const auto end = std::chrono::system_clock::now() + std::chrono::hours(24);
    authority_ = make_authority("lab", end);
    ca_ = lab_->write_file("ca.pem", authority_.certificate);
    for (const char* name : {"shop", "cart"}) {
      const CertificatePem pair = make_certificate_for(fmt::format("DNS:{}.test", name), end, &authority_);
      lab_->write_file(std::string(name) + ".crt", pair.certificate);
      lab_->write_file(std::string(name) + ".key", pair.key);
    }
  }
  void TearDown() override {
    if (HasFailure() && relay_) ADD_FAILURE() << "log of the relay:\n" << relay_->log();
    relay_.reset();
    AgentTest::TearDown();
  }

  [[nodiscard]] std::string file(const std::string& name) const { return (lab_->folder() / name).string(); }
  /// "{certificate: ..., key: ...}"
  [[nodiscard]] std::string pair(const std::string& name) const {
    return fmt::format("{{certificate: {}, key: {}}}", file(name + ".crt"), file(name + ".key"));
  }
  /// One listener on port 8443 of all addresses with what `more` says, and services web (both servers) and one (the
  /// first).
  [[nodiscard]] std::string body(const std::string& more) const {
    return fmt::format(
        "services:\n"
        "  - {{name: web, address: \"240.64.0.10:80\", balance: round_robin, endpoints: {}}}\n"
        "  - {{name: one, address: \"240.64.0.11:80\", endpoints: [{{address: \"{}\"}}]}}\n"
        "relay:\n"
        "  workers: 2\n"
        "  drain_timeout: 3s\n"
        "  listeners:\n"
        "    - {{name: shop, address: \"[::]:8443\", {}}}\n",
        endpoints(8080), hosts_[0]->v4(8080), more);
  }
  void start(const std::string& more) { start_agent_and_relay(body(more)); }
  void start_agent_and_relay(const std::string& text) {
    agent_ = std::make_unique<Agent>(*lab_, *node_, AgentSpec{.body = text});
    agent_->start();
    relay_ = std::make_unique<RelayProcess>(*lab_, *node_, *agent_);
    relay_->start();
    ASSERT_TRUE(agent_->await_healthy()) << agent_->ctl({"status"}).text << agent_->log() << relay_->log();
    // A relay that started before the agent asks again after a second; the agent is healthy meanwhile.
    const auto listening = [&] {
      const Json relay = agent_->json({"status"})["relay"];
      return relay.is_object() && relay.value("connected", false) &&
             std::ranges::all_of(relay["listeners"], [](const Json& one) { return one["state"] == "listening"; });
    };
    ASSERT_TRUE(eventually(std::chrono::seconds(10), listening)) << agent_->json({"status"})["relay"] << relay_->log();
  }

  /// Asks https://NAME:8443/ from another host and returns what came: the backend's name.
  Output curl(const std::string& name, std::vector<std::string> more = {}, bool v6 = false) {
    std::vector<std::string> argv{
        "curl", "-s",        "-S",
        "-m",   "5",         "--cacert",
        ca_,    "--resolve", fmt::format("{}:8443:{}", name, v6 ? "[" + node_->v6() + "]" : node_->v4())};
    argv.insert(argv.end(), more.begin(), more.end());
    argv.push_back(fmt::format("https://{}:8443/", name));
    Output output = run(argv, lab_->on(*clients_, "others"));
    if (output.text.ends_with('\n')) output.text.pop_back();
    return output;
  }

  Host* clients_ = nullptr;
  CertificatePem authority_;
  std::string ca_;
  std::unique_ptr<RelayProcess> relay_;
};

}  // namespace mesh::test
