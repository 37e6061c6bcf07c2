// SPDX-License-Identifier: Apache-2.0
// Configuration and files change under a running agent: all of a good change or nothing of a bad one.
#include <fmt/format.h>
#include <signal.h>

#include <filesystem>

#include "tests/support/agent_test.hpp"

namespace mesh::test {
namespace {

namespace fs = std::filesystem;
using std::chrono::seconds;

constexpr const char* kVip = "240.64.0.10:80";
constexpr const char* kVip2 = "240.64.0.11:80";

class ReloadTest : public AgentTest {
 protected:
  static std::string service(const char* name, const char* address, const std::string& endpoint) {
    return fmt::format("  - {{name: {}, address: \"{}\", endpoints: [{{address: \"{}\"}}]}}\n", name, address,
                       endpoint);
  }
  std::string backend(const char* address) {
    const Call made = call(app(), Via::kTcp, address, 1)[0];
    return made.errnum == 0 ? made.backend : ::strerrorname_np(made.errnum);
  }
};

TEST_F(ReloadTest, a_file_event_applies_a_good_change) {
  add_servers(2);
  start_agent({.body = "services:\n" + service("web", kVip, hosts_[0]->v4(7000))});
  EXPECT_EQ(backend(kVip), "web1");
  agent_->reconfigure("services:\n" + service("web", kVip, hosts_[1]->v4(7000)));
  EXPECT_TRUE(eventually(seconds(3), [&] { return backend(kVip) == "web2"; }));
}

TEST_F(ReloadTest, a_broken_change_leaves_everything_as_it_was_and_says_so) {
  add_servers(2);
  const std::string good = "services:\n" + service("web", kVip, hosts_[0]->v4(7000));
  start_agent({.body = good});
  // The first service is a fine change, the second is not: nothing of it may be applied.
  agent_->reconfigure(
      "services:\n" + service("web", kVip, hosts_[1]->v4(7000)) +
      "  - {name: other, address: \"240.64.0.11:80\", endpoints: [{address: \"240.1.1.1:80\", wieght: 3}]}\n");
  ASSERT_TRUE(eventually(seconds(3), [&] { return agent_->ctl({"status"}).code == 3; }))
      << agent_->ctl({"status"}).text;
  const Json config = agent_->json({"status"})["config"];
  EXPECT_FALSE(config["last_reload_ok"].get<bool>());
  ASSERT_FALSE(config["errors"].empty());
  EXPECT_NE(config["errors"][0]["key"].get<std::string>().find("wieght"), std::string::npos);
  EXPECT_NE(config["errors"][0]["suggestion"].get<std::string>().find("weight"), std::string::npos);
  EXPECT_GT(config["errors"][0]["line"].get<int>(), 0);
  EXPECT_EQ(backend(kVip), "web1");
  EXPECT_EQ(agent_->meshd({"--check-config", agent_->config_file()}).code, 78);

  agent_->reconfigure(good);
  EXPECT_TRUE(agent_->await_healthy(seconds(3))) << agent_->ctl({"status"}).text;
}

TEST_F(ReloadTest, sighup_reloads_too) {
  add_servers(1);
  start_agent({.body = "services:\n" + service("web", kVip, hosts_[0]->v4(7000))});
  const std::string before = agent_->json({"status"})["config"]["loaded_at"];
  agent_->signal(SIGHUP);
  EXPECT_TRUE(eventually(seconds(3), [&] { return agent_->json({"status"})["config"]["loaded_at"] != before; }));
}

TEST_F(ReloadTest, a_folder_of_files_follows_a_symlink_swap_as_config_maps_do_it) {
  add_servers(2);
  const fs::path folder = lab_->folder() / "mounted";
  const auto version = [&](const char* name, const std::string& endpoint) {
    lab_->write_file(
        fmt::format("mounted/{}/web.json", name),
        fmt::format(R"({{"services": [{{"name": "web", "address": "{}", "endpoints": [{{"address": "{}"}}]}}]}})", kVip,
                    endpoint));
  };
  version("..v1", hosts_[0]->v4(7000));
  version("..v2", hosts_[1]->v4(7000));
  fs::create_symlink("..v1", folder / "..data");
  fs::create_symlink("..data/web.json", folder / "web.json");
  start_agent({.body = fmt::format("files: [{}]\n", folder.string())});
  EXPECT_EQ(backend(kVip), "web1");
  fs::create_symlink("..v2", folder / "..data_tmp");
  fs::rename(folder / "..data_tmp", folder / "..data");
  EXPECT_TRUE(eventually(seconds(3), [&] { return backend(kVip) == "web2"; })) << agent_->ctl({"status"}).text;
}

TEST_F(ReloadTest, a_vanished_file_keeps_its_endpoints_and_is_stale) {
  add_servers(1);
  const std::string file =
      lab_->write_file("cache.json", fmt::format(R"({{"endpoints": [{{"address": "{}"}}]}})", hosts_[0]->v4(7000)));
  start_agent({.body = fmt::format("services:\n  - {{name: cache, address: \"{}\", file: {}}}\n", kVip2, file)});
  EXPECT_EQ(backend(kVip2), "web1");
  fs::remove(file);
  EXPECT_TRUE(eventually(seconds(5), [&] { return agent_->ctl({"status"}).code == 3; }))
      << agent_->ctl({"status"}).text;
  EXPECT_EQ(backend(kVip2), "web1");
}

}  // namespace
}  // namespace mesh::test
