// SPDX-License-Identifier: Apache-2.0
// The agent dies, comes back, is upgraded, is contested, is removed: invariants I1, I3, I7.
#include <fmt/format.h>

#include <filesystem>
#include <fstream>

#include "tests/support/agent_test.hpp"
#include "tests/support/books_trial.hpp"
#include "tests/support/links.hpp"
#include "tests/support/restart_trial.hpp"

namespace mesh::test {
namespace {

namespace fs = std::filesystem;
using std::chrono::seconds;

constexpr const char* kVip = "240.64.0.10:80";
constexpr int kKills = 50;
constexpr std::uint64_t kSeed = 20261120;

class SurvivalTest : public AgentTest {
 protected:
  std::string one_service() {
    return fmt::format("services:\n  - {{name: web, address: \"{}\", balance: round_robin, endpoints: {}}}\n", kVip,
                       endpoints(7000));
  }
  std::string backend() {
    const Call made = call(app(), Via::kTcp, kVip, 1)[0];
    return made.errnum == 0 ? made.backend : ::strerrorname_np(made.errnum);
  }
};

TEST_F(SurvivalTest, a_state_that_can_not_be_saved_is_said_with_its_remedy) {
  add_servers(1);
  start_agent({.body = one_service()});
  ASSERT_TRUE(eventually(seconds(5), [&] { return fs::exists(agent_->state_folder() + "/last-good.state"); }));
  EXPECT_NE(agent_->http("/metrics").find("mesh_state_saved 1"), std::string::npos);
  agent_->kill();
  fs::remove_all(agent_->state_folder());
  std::ofstream(agent_->state_folder()) << "not a folder\n";
  agent_->start();
  ASSERT_TRUE(eventually(seconds(5), [&] {
    const Output status = agent_->ctl({"status"});
    return status.code == 3 && status.text.find("problem state_not_saved") != std::string::npos &&
           status.text.find("-> let agent.state_dir be a folder") != std::string::npos;
  })) << agent_->ctl({"status"}).text;
  EXPECT_NE(agent_->http("/metrics").find("mesh_state_saved 0"), std::string::npos);
  EXPECT_TRUE(agent_->http("/readyz").starts_with("200")) << "connects are balanced all the same";
}

TEST_F(SurvivalTest, kill_9_at_random_points_fails_no_connect_and_changes_no_id) {
  RestartOptions options{.kills = kKills, .seed = kSeed, .programs = {built_program("meshd")}};
  if (const std::string next = built_next_meshd(); !next.empty()) options.programs.push_back(next);
  const RestartReport report = run_restart_trial(options);
  for (const auto& row : report.rows) {
    EXPECT_EQ(row.counts.failures, 0U) << row.target << " of " << row.counts.attempts << ": "
                                       << ::strerror(row.counts.first_errno);
    EXPECT_GT(row.counts.attempts, static_cast<std::uint64_t>(kKills)) << row.target;
  }
  EXPECT_EQ(report.faults, std::vector<std::string>{}) << "seed " << kSeed;
  std::printf("seed %llu: %d kills while applying, %d while starting, %d program changes, %llu connects\n",
              static_cast<unsigned long long>(kSeed), report.kills_applying, report.kills_starting,
              report.program_changes, static_cast<unsigned long long>(report.attempts()));
}

TEST_F(SurvivalTest, after_a_storm_under_kills_the_books_balance) {
  const BooksReport report = run_books_trial({.kills = 10, .seed = kSeed});
  std::printf("seed %llu: %llu connections\n", static_cast<unsigned long long>(kSeed),
              static_cast<unsigned long long>(report.connections));
  EXPECT_GT(report.opened, 0U);
  EXPECT_EQ(report.records, 0U);
  for (const std::string& fault : report.faults) ADD_FAILURE() << fault;
}

TEST_F(SurvivalTest, a_dead_agent_leaves_status_dump_and_detach) {
  add_servers(2);
  start_agent({.body = one_service()});
  agent_->kill();
  EXPECT_EQ(tally(call(app(), Via::kTcp, kVip, 10)), (std::map<std::string, int>{{"web1", 5}, {"web2", 5}}));

  const Output status = agent_->ctl({"status", "--bpffs", agent_->bpffs()});
  EXPECT_EQ(status.code, 69) << status.text << status.errors;
  EXPECT_NE((status.text + status.errors).find("appl"), std::string::npos) << "says when it last applied:\n"
                                                                           << status.text << status.errors;
  EXPECT_EQ(agent_->dump()["backends"].size() >= 2, true);

  const Output detached = agent_->meshd({"detach", "--bpffs", agent_->bpffs()});
  EXPECT_EQ(detached.code, 0) << detached.text << detached.errors;
  EXPECT_EQ(links_on(lab_->cgroup("apps")), std::vector<std::uint32_t>{});
  EXPECT_FALSE(fs::exists(agent_->bpffs())) << "detach leaves pins";
  EXPECT_FALSE(fs::exists(lab_->cgroup("meshd") + "/agent")) << "detach leaves the agent's own cgroup";
  EXPECT_EQ(backend(), "ENETUNREACH");
}

TEST_F(SurvivalTest, stop_leaves_the_mesh_in_force) {
  add_servers(1);
  start_agent({.body = one_service()});
  EXPECT_EQ(agent_->terminate(), 0);
  EXPECT_FALSE(fs::exists(lab_->folder() / "meshd-run" / "relay.sock"));
  EXPECT_EQ(backend(), "web1");
  agent_->start_healthy();
  EXPECT_EQ(backend(), "web1");
}

TEST_F(SurvivalTest, after_a_reboot_a_broken_config_starts_from_the_last_good_state_marked_stale) {
  add_servers(2);
  start_agent({.body = one_service()});
  ASSERT_TRUE(eventually(seconds(5),
                         [&] { return fs::exists(agent_->state_folder()) && !fs::is_empty(agent_->state_folder()); }));
  EXPECT_EQ(agent_->terminate(), 0);
  agent_->meshd({"detach", "--bpffs", agent_->bpffs()});  // what a reboot does to maps and links
  ASSERT_EQ(backend(), "ENETUNREACH");
  agent_->reconfigure("services: [{nmae: broken}]\n");
  agent_->start();
  // One connect per look: two would take turns with two servers and might never meet.
  ASSERT_TRUE(eventually(seconds(10), [&] { return backend().starts_with("web"); })) << agent_->log();
  ASSERT_TRUE(eventually(seconds(5), [&] { return agent_->ctl({"status"}).code == 3; }));
  const Json status = agent_->json({"status"});
  EXPECT_TRUE(status["config"]["from_state"].get<bool>()) << status.dump(1);
  agent_->reconfigure(one_service());
  EXPECT_TRUE(agent_->await_healthy()) << agent_->ctl({"status"}).text;
}

TEST_F(SurvivalTest, a_second_agent_on_the_same_bpffs_or_cgroup_refuses_and_says_who_holds_it) {
  add_servers(1);
  start_agent({.body = one_service()});
  Agent same_bpffs(*lab_, *node_, {.name = "second", .cgroups = {"elsewhere"}, .body = one_service()});
  std::ofstream(same_bpffs.config_file(), std::ios::app) << "";
  std::ifstream file(same_bpffs.config_file());
  std::string text((std::istreambuf_iterator<char>(file)), {});
  text.replace(text.find(same_bpffs.bpffs()), same_bpffs.bpffs().size(), agent_->bpffs());
  const std::string path = lab_->write_file("second/same.yaml", text);
  const Output first = run({built_program("meshd"), "run", "--config", path}, lab_->on(*node_, "second"));
  EXPECT_NE(first.code, 0);
  EXPECT_NE((first.text + first.errors).find(std::to_string(agent_->process().pid())), std::string::npos)
      << first.text << first.errors;

  Agent same_cgroup(*lab_, *node_, {.name = "third", .cgroups = {"apps"}, .body = one_service()});
  const Output second =
      run({built_program("meshd"), "run", "--config", same_cgroup.config_file()}, lab_->on(*node_, "third"));
  EXPECT_NE(second.code, 0);
  EXPECT_NE((second.text + second.errors).find(agent_->bpffs()), std::string::npos) << second.text << second.errors;
  EXPECT_EQ(backend(), "web1");
  EXPECT_TRUE(agent_->await_healthy(seconds(3)));
}

}  // namespace
}  // namespace mesh::test
