// SPDX-License-Identifier: Apache-2.0
// What meshctl says about connections, against what really happened to them: live ones, ended ones, rates, history.
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/address.hpp"
#include "tests/support/agent_test.hpp"

namespace mesh::test {
namespace {

using namespace std::chrono_literals;

constexpr const char* kVip = "240.64.0.10:80";

class InsightTest : public AgentTest {
 protected:
  [[nodiscard]] std::string web(const std::string& endpoints_text) const {
    return fmt::format("services:\n  - {{name: web, address: \"{}\", probe: none, endpoints: {}}}\n", kVip,
                       endpoints_text);
  }

  /// Whether the history has an event of this kind whose endpoint and text hold these.
  bool happened(const std::string& kind, const std::string& endpoint, const std::string& text) {
    for (const Json& event : agent_->json({"history", "web", "--since", "10m"})["items"]) {
      if (event["kind"] == kind && event["endpoint"] == endpoint &&
          event["text"].get<std::string>().find(text) != std::string::npos) {
        return true;
      }
    }
    return false;
  }
};

TEST_F(InsightTest, history_tells_endpoints_and_refusals_also_after_a_crash) {
  add_servers(2);
  start_agent({.body = web(fmt::format("[\"{}\"]", hosts_[0]->v4(7000)))});
  const auto started = [&] { return agent_->ctl({"history"}).text.find("1 service, 1 endpoint") != std::string::npos; };
  ASSERT_TRUE(eventually(5s, started));
  agent_->reconfigure(web(endpoints(7000)));
  EXPECT_TRUE(eventually(5s, [&] { return happened("endpoint_added", hosts_[1]->v4(7000), "weight 1"); }));
  agent_->reconfigure(web("[]"));
  EXPECT_TRUE(eventually(5s, [&] { return happened("endpoint_removed", hosts_[0]->v4(7000), ""); }));
  EXPECT_EQ(call(app(), Via::kTcp, kVip, 1)[0].errnum, ECONNREFUSED);
  EXPECT_TRUE(eventually(5s, [&] { return happened("refused", "", "1 connect: no usable backend"); }));
  agent_->kill();
  agent_->start_healthy();
  EXPECT_TRUE(happened("refused", "", "no usable backend"));
  const Output all = agent_->ctl({"history"});
  EXPECT_NE(all.text.find("the agent started with 1 service"), std::string::npos) << all.text;
  EXPECT_NE(all.text.find("generation "), std::string::npos) << all.text;
}

/// Connects to the virtual address, says so by a file, sends `bytes`, and keeps the connection until it is killed.
Process hold_connection(const SpawnOptions& where, const std::string& address, const std::string& ready,
                        std::size_t bytes) {
  return Process::start(where, [=] {
    sockaddr_storage to{};
    const socklen_t length = base::SocketAddress::parse(address)->to_sockaddr(to);
    const int fd = ::socket(to.ss_family, SOCK_STREAM, 0);
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&to), length) != 0) return 1;
    const std::string payload(bytes, 'x');
    if (::write(fd, payload.data(), payload.size()) != static_cast<ssize_t>(bytes)) return 2;
    std::ofstream(ready) << "ready";
    return ::pause();
  });
}

TEST_F(InsightTest, connections_are_listed_with_what_their_sockets_say) {
  add_servers(1);
  start_agent({.body = web(endpoints(8080)) +
                       fmt::format("  - {{name: quiet, address: \"240.64.0.11:80\", feedback: false, probe: none, "
                                   "endpoints: {}}}\n",
                                   endpoints(8080))});
  // One in the namespace of the agent, one in another, one without feedback.
  Host& other = lab_->add_host("other");
  const std::string ready = lab_->folder() / "ready";
  Process near = hold_connection(app(), kVip, ready + "1", 1000);
  Process far = hold_connection(lab_->on(other, "apps/pod"), kVip, ready + "2", 10);
  Process quiet = hold_connection(app(), "240.64.0.11:80", ready + "3", 10);
  for (const char* number : {"1", "2", "3"}) {
    ASSERT_TRUE(eventually(5s, [&] { return std::filesystem::exists(ready + number); }));
  }
  const auto rows = [&](std::vector<std::string> filter) {
    filter.insert(filter.begin(), "connections");
    return agent_->json(filter)["items"];
  };
  ASSERT_TRUE(eventually(5s, [&] { return rows({"--pid", std::to_string(near.pid())})[0]["bytes_out"] == 1000; }));
  const Json row = rows({"--pid", std::to_string(near.pid())})[0];
  EXPECT_EQ(row["service"], "web");
  EXPECT_EQ(row["frontend"], std::string(kVip) + "/tcp");
  EXPECT_EQ(row["backend"], hosts_[0]->v4(8080));
  EXPECT_EQ(row["local"].get<std::string>().rfind(node_->v4() + ":", 0), 0U) << row;
  EXPECT_EQ(row["cgroup"], lab_->cgroup_path("apps"));
  EXPECT_EQ(row["state"], "established");
  EXPECT_GT(row["connect_us"], 0);
  EXPECT_GT(row["srtt_us"], 0);
  EXPECT_EQ(row["retransmits"], 0);
  EXPECT_EQ(row["path"], "direct");
  struct stat netns{};
  ASSERT_EQ(::fstat(node_->netns(), &netns), 0);
  EXPECT_EQ(row["netns_inode"], netns.st_ino);

  const Json elsewhere = rows({"--pid", std::to_string(far.pid())});
  ASSERT_EQ(elsewhere.size(), 1U);
  EXPECT_EQ(elsewhere[0]["bytes_out"], 10) << elsewhere;
  EXPECT_NE(elsewhere[0]["netns_inode"], row["netns_inode"]);
  EXPECT_EQ(rows({"--netns", std::to_string(netns.st_ino)}).size(), 1U);
  EXPECT_EQ(rows({"--cgroup", lab_->cgroup_path("apps")}).size(), 2U);
  EXPECT_EQ(rows({"--cgroup", "pod"}).size(), 1U);

  const Json unknown = rows({"quiet"});
  ASSERT_EQ(unknown.size(), 1U);
  EXPECT_EQ(unknown[0]["feedback"], false);
  EXPECT_EQ(unknown[0]["pid"], 0);
  EXPECT_EQ(unknown[0]["bytes_out"], 10) << "its socket is found all the same: " << unknown;
  EXPECT_NE(agent_->ctl({"connections", "quiet"}).text.find("(feedback off)"), std::string::npos);

  EXPECT_EQ(rows({"--backend", hosts_[0]->v4()}).size(), 3U);
  EXPECT_EQ(rows({"--state", "established"}).size(), 3U);
  EXPECT_EQ(rows({"--state", "syn_sent"}).size(), 0U);
  const Json page = agent_->json({"connections", "--limit", "2"});
  EXPECT_EQ(page["total"], 3);
  EXPECT_EQ(page["truncated"], 1);
  near.kill();
  EXPECT_TRUE(eventually(5s, [&] { return rows({"web"}).size() == 1U; })) << "the record lives as long as its socket";
}

TEST_F(InsightTest, flows_tell_how_each_connection_ended) {
  add_servers(2);
  start_agent(
      {.body = web(fmt::format("[\"{}\"]", hosts_[0]->v4(7000))) +
               fmt::format("  - {{name: shut, address: \"240.64.0.12:80\", probe: none, endpoints: [\"{}\"]}}\n",
                           hosts_[1]->v4(7999))});
  const std::string followed = lab_->folder() / "followed";
  SpawnOptions follower = lab_->on(*node_, "operator");
  follower.output = followed;
  follower.environment = {"MESHD_SOCKET=" + agent_->socket()};
  Process following = Process::start(follower, {built_program("meshctl"), "flows", "-f", "--failed", "-o", "json"});
  EXPECT_EQ(tally(call(app(), Via::kTcp, kVip, 3)), (std::map<std::string, int>{{"web1", 3}}));
  EXPECT_EQ(call(app(), Via::kTcp, "240.64.0.12:80", 1)[0].errnum, ECONNREFUSED);
  const auto flows = [&](std::vector<std::string> filter) {
    filter.insert(filter.begin(), "flows");
    return agent_->json(filter)["items"];
  };
  ASSERT_TRUE(eventually(5s, [&] { return flows({}).size() == 4U; })) << flows({});
  const Json ended = flows({"web"});
  ASSERT_EQ(ended.size(), 3U);
  EXPECT_EQ(ended[0]["outcome"], "reset_by_us") << "the client lingers for no time: " << ended;
  EXPECT_EQ(ended[0]["backend"], hosts_[0]->v4(7000));
  EXPECT_EQ(ended[0]["bytes_in"], std::string("web1").size() + 1) << ended;
  EXPECT_GT(ended[0]["connect_us"], 0);
  EXPECT_GT(ended[0]["duration_s"], 0.0);
  EXPECT_EQ(ended[0]["cgroup"], lab_->cgroup_path("apps"));
  const Json failed = flows({"--failed"});
  ASSERT_EQ(failed.size(), 1U);
  EXPECT_EQ(failed[0]["service"], "shut");
  EXPECT_EQ(failed[0]["outcome"], "refused");
  EXPECT_EQ(flows({"--outcome", "refused", "--backend", hosts_[1]->v4()}).size(), 1U);
  EXPECT_EQ(flows({"--cgroup", "nowhere"}).size(), 0U);
  EXPECT_TRUE(eventually(5s, [&] {
    std::ifstream file(followed);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    return text.find(R"("outcome":"refused")") != std::string::npos && text.find("web1") == std::string::npos;
  }));
}

TEST_F(InsightTest, stat_and_top_count_what_was_done) {
  add_servers(2);
  start_agent({.body = fmt::format("services:\n  - {{name: web, address: \"{}\", balance: round_robin, probe: none, "
                                   "endpoints: {}}}\n",
                                   kVip, endpoints(7000))});
  EXPECT_EQ(call(app(), Via::kTcp, kVip, 10).back().errnum, 0);
  ASSERT_TRUE(eventually(5s, [&] { return agent_->json({"stat", "web"})["items"][0]["counts"]["closed"] == 10; }));
  const auto sum = [](const Json& buckets) {
    std::uint64_t total = 0;
    for (const Json& count : buckets) total += count.get<std::uint64_t>();
    return total;
  };
  const Json web = agent_->json({"stat", "web"})["items"][0];
  EXPECT_EQ(web["counts"]["opened"], 10);
  EXPECT_EQ(web["counts"]["established"], 10);
  EXPECT_EQ(web["counts"]["failed"], 0);
  EXPECT_EQ(sum(web["counts"]["latency"]), 10U);
  ASSERT_EQ(web["backends"].size(), 2U);
  for (const Json& backend : web["backends"]) EXPECT_EQ(backend["counts"]["opened"], 5) << backend;
  EXPECT_TRUE(eventually(5s, [&] {
    return sum(agent_->json({"stat", "web"})["items"][0]["backends"][0]["counts"]["latency"]) == 5U;
  })) << "of its samples";
  // Nothing happens now, and top says so; the other figures are those from the beginning.
  const Json now = agent_->json({"top", "web", "-n", "1", "--interval", "0.2"});
  EXPECT_GT(now["seconds"], 0.0);
  EXPECT_EQ(now["items"][0]["counts"]["opened"], 0);
  EXPECT_NE(agent_->ctl({"stat"}).text.find("  " + hosts_[0]->v4(7000)), std::string::npos);
  EXPECT_EQ(agent_->ctl({"stat", "nothing"}).code, 4);
}

}  // namespace
}  // namespace mesh::test
