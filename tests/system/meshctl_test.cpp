// SPDX-License-Identifier: Apache-2.0
// The meshctl binary against an admin server with a fake agent behind it: every command, every output form, every exit
// code that does not need a kernel.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <future>
#include <nlohmann/json.hpp>
#include <thread>

#include "app/admin_server.hpp"
#include "io/loop.hpp"
#include "tests/support/agent.hpp"
#include "tests/support/fake_admin_backend.hpp"
#include "tests/support/process.hpp"

namespace mesh::test {
namespace {

class Meshctl : public ::testing::Test {
 protected:
  void SetUp() override {
    binary_ = built_program("meshctl");
    if (binary_.empty()) GTEST_SKIP() << "SKIPPED: this build has no meshctl";
    std::string pattern = (std::filesystem::temp_directory_path() / "meshctl-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    auto choice = io::make_loop(io::LoopKind::kAutomatic);
    ASSERT_TRUE(choice) << choice.error().to_string();
    loop_ = std::move(choice->loop);
    thread_ = std::thread([this] { loop_->run(); });
    on_loop([&] {
      server_ = std::make_unique<app::AdminServer>(*loop_, backend_,
                                                   app::AdminServerOptions{.socket = socket(), .socket_group = ""});
      ASSERT_TRUE(server_->start());
    });
  }

  void TearDown() override {
    if (!thread_.joinable()) return;
    std::promise<void> stopped;
    on_loop([&] { server_->stop([&] { stopped.set_value(); }); });
    stopped.get_future().wait();
    on_loop([&] { loop_->stop(); });
    thread_.join();
    server_.reset();
    std::filesystem::remove_all(folder_);
  }

  void on_loop(const std::function<void()>& work) {
    std::promise<void> done;
    loop_->post([&] {
      work();
      done.set_value();
    });
    done.get_future().wait();
  }

  [[nodiscard]] std::string socket() const { return folder_ + "/meshd.sock"; }

  Output meshctl(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), binary_);
    return run(arguments, {.environment = {"MESHD_SOCKET=" + socket(), "TZ=UTC"}});
  }

  std::string binary_;
  std::string folder_;
  FakeAdminBackend backend_;
  std::unique_ptr<io::Loop> loop_;
  std::thread thread_;
  std::unique_ptr<app::AdminServer> server_;
};

using Arguments = std::vector<std::string>;

const Arguments kCommands[] = {
    {"status"},
    {"services"},
    {"services", "orders"},
    {"endpoints"},
    {"endpoints", "orders"},
    {"sources"},
    {"connections"},
    {"connections", "orders", "--backend", "10.0.0.11", "--pid", "1", "--cgroup", "a.service"},
    {"flows"},
    {"flows", "orders", "--failed", "--outcome", "refused"},
    {"stat"},
    {"stat", "orders"},
    {"top", "-n", "1", "--interval", "0.1"},
    {"history"},
    {"history", "orders", "--since", "2d"},
    {"explain", "orders"},
    {"bpf", "dump"},
    {"bpf", "dump", "owners"},
    {"bpf", "diff"},
    {"bpf", "stats"},
    {"config", "show"},
    {"version"},
    {"log-level"},
    {"log-level", "debug"},
    {"pause", "--for", "10m"},
    {"pause", "orders"},
    {"resume"},
    {"reload"},
    {"detach", "--yes"}};

TEST_F(Meshctl, every_command_prints_every_form) {
  for (const Arguments& command : kCommands) {
    for (const char* form : {"table", "wide", "json", "yaml"}) {
      Arguments arguments = command;
      arguments.insert(arguments.end(), {"-o", form});
      const Output output = meshctl(arguments);
      SCOPED_TRACE(command[0] + " " + command.back() + " -o " + form);
      EXPECT_EQ(output.code, 0) << output.errors;
      EXPECT_EQ(output.errors, "");
      EXPECT_FALSE(output.text.empty());
      if (std::string(form) == "json") {
        const auto json = nlohmann::json::parse(output.text, nullptr, false);
        ASSERT_FALSE(json.is_discarded()) << output.text;
        EXPECT_EQ(json["apiVersion"], "meshd/v1");
      }
      if (std::string(form) == "yaml") EXPECT_EQ(output.text.find("apiVersion: meshd/v1\n"), 0U);
    }
  }
}

TEST_F(Meshctl, status_and_explain_read_like_the_first_hour) {
  EXPECT_EQ(meshctl({"status"}).text,
            "healthy  1 endpoint down  canary ok 0.4s ago  hooks 10/10 effective  desired = kernel, compared 12s ago "
            "(2 services, 3 endpoints)  maps 0.1 %  file: synced 3.0s ago\n");
  EXPECT_EQ(meshctl({"explain", "orders"})
                .text.find("orders 240.64.0.10:80/tcp (meshd.yaml:6) round_robin | 10.0.0.11:8080 100 %"),
            0U);
}

TEST_F(Meshctl, exit_codes_are_as_documented) {
  EXPECT_EQ(meshctl({"status"}).code, 0);
  on_loop([&] { backend_.status_value.state = "degraded"; });
  EXPECT_EQ(meshctl({"status"}).code, 3);
  EXPECT_EQ(meshctl({"endpoints", "nothing"}).code, 4);
  EXPECT_EQ(meshctl({"explain", "192.0.2.1:80"}).code, 4);
  on_loop([&] { backend_.diff_value.in_sync = false; });
  EXPECT_EQ(meshctl({"bpf", "diff"}).code, 5);
  on_loop([&] { backend_.reload_value.ok = false; });
  EXPECT_EQ(meshctl({"reload"}).code, 78);
  for (const Arguments& wrong : {Arguments{},
                                 {"nonsense"},
                                 {"status", "--bogus"},
                                 {"status", "-o", "xml"},
                                 {"explain"},
                                 {"pause", "--for", "10"},
                                 {"version", "--watch"},
                                 {"completion", "tcsh"},
                                 {"connections", "--netns", "-1"},
                                 {"estimate", "--services", "10", "--endpoints", "-3"},
                                 {"drain", "--list", "--undo"},
                                 {"detach"}}) {
    EXPECT_EQ(meshctl(wrong).code, 2) << (wrong.empty() ? "" : wrong[0]);
  }
  EXPECT_EQ(meshctl({"--help"}).code, 0);
  const Output unreachable = meshctl({"services", "--socket", folder_ + "/none.sock"});
  EXPECT_EQ(unreachable.code, 69);
  EXPECT_NE(unreachable.errors.find("systemctl start meshd"), std::string::npos);
}

TEST_F(Meshctl, a_wrong_word_is_answered_with_the_right_ones) {
  const auto first_line = [&](const Arguments& arguments) {
    const std::string errors = meshctl(arguments).errors;
    return errors.substr(0, errors.find('\n'));
  };
  EXPECT_EQ(first_line({"statsu"}), "meshctl: unknown command 'statsu'; did you mean 'status'?");
  EXPECT_EQ(first_line({"--timeout", "3", "bpf", "dmp"}), "meshctl: unknown command 'dmp'; did you mean 'dump'?");
  EXPECT_EQ(first_line({"nosuch"}).find("meshctl: unknown command 'nosuch'; use one of: status, check, "), 0U);
  EXPECT_EQ(first_line({"status", "-o", "xml"}),
            "meshctl: --output: unknown form 'xml'; use one of: table, wide, json, yaml");
  EXPECT_EQ(meshctl({"status", "-o", "JSON"}).text.find("{"), 0U);
  for (const char* parent : {"bpf", "config"}) {
    const std::string help = meshctl({parent, "--help"}).text;
    EXPECT_NE(help.find(std::string("  meshctl ") + parent), std::string::npos) << help;
    EXPECT_EQ(help.find("meshctl pause"), std::string::npos) << help;
  }
}

TEST_F(Meshctl, a_stranger_is_turned_away) {
  std::filesystem::permissions(folder_, std::filesystem::perms::all);
  const Output output = run({binary_, "--socket", socket(), "status"}, {.uid = 65534, .gid = 65534});
  EXPECT_EQ(output.code, 77) << output.errors;
  std::filesystem::permissions(socket(), std::filesystem::perms::all);  // even if the file lets it in
  EXPECT_EQ(run({binary_, "--socket", socket(), "status"}, {.uid = 65534, .gid = 65534}).code, 77);
  EXPECT_EQ(run({binary_, "--socket", socket(), "pause"}, {.uid = 65534, .gid = 65534}).code, 77);
  EXPECT_TRUE(backend_.changes.empty());
}

TEST_F(Meshctl, changes_reach_the_agent_as_they_were_asked_for) {
  meshctl({"pause", "orders", "--for", "1h30m"});
  meshctl({"pause"});
  meshctl({"resume"});
  meshctl({"log-level", "debug"});
  EXPECT_EQ(backend_.changes, (Arguments{"pause orders 5400", "pause  600", "resume ", "log debug"}));
}

TEST_F(Meshctl, a_long_list_comes_in_pages_and_prints_as_one) {
  on_loop([&] { backend_.endpoint_values.assign(1050, backend_.endpoint_values[0]); });
  const Output output = meshctl({"endpoints", "--no-headers"});
  EXPECT_EQ(std::count(output.text.begin(), output.text.end(), '\n'), 1050);
  EXPECT_GE(server_->counters().requests, 6U);
}

TEST_F(Meshctl, curl_reads_the_socket) {
  if (!have_program("curl")) GTEST_SKIP() << "SKIPPED: curl is not installed";
  const Output output = run({"curl", "-sf", "--unix-socket", socket(), "http://meshd/v1/status"});
  EXPECT_EQ(output.code, 0);
  EXPECT_EQ(nlohmann::json::parse(output.text)["kind"], "Status");
  const Output change = run({"curl", "-sf", "--unix-socket", socket(), "-d", R"({"service":"orders","seconds":60})",
                             "http://meshd/v1/pause"});
  EXPECT_EQ(change.code, 0);
  EXPECT_EQ(backend_.changes, Arguments{"pause orders 60"});
}

TEST_F(Meshctl, completions_know_every_command_and_are_valid_scripts) {
  for (const char* shell : {"bash", "zsh", "fish"}) {
    const Output output = meshctl({"completion", shell});
    for (const char* word : {"explain", "endpoints", "stats", "frontends", "validate", "--no-headers"}) {
      const std::string expected = std::string(shell) == "fish" && word[0] == '-' ? "-l no-headers" : word;
      EXPECT_NE(output.text.find(expected), std::string::npos) << shell << " lacks " << word;
    }
    if (!have_program(shell)) continue;
    const std::string file = folder_ + "/completion." + shell;
    std::ofstream(file) << output.text;
    EXPECT_EQ(run({shell, "-n", file}).code, 0) << shell;
  }
  std::ofstream(folder_ + "/try.sh")
      << "source " << folder_ << "/completion.bash\n"
      << "COMP_WORDS=(meshctl bpf du); COMP_CWORD=2; _meshctl; echo \"${COMPREPLY[@]}\"\n"
      << "COMP_WORDS=(meshctl -o js); COMP_CWORD=2; _meshctl; echo \"${COMPREPLY[@]}\"\n";
  EXPECT_EQ(run({"bash", folder_ + "/try.sh"}).text, "dump\njson\n");
}

TEST_F(Meshctl, run_enters_an_existing_cgroup_and_becomes_the_command) {
  const Output missing = meshctl({"run", "--as", "/no/such/cgroup", "--", "true"});
  EXPECT_EQ(missing.code, 4) << missing.errors;
  const Output output = meshctl({"run", "--as", "/", "--", "sh", "-c", "exit 9"});
  if (output.code == 77) GTEST_SKIP() << "SKIPPED: not allowed to enter the root cgroup here";
  EXPECT_EQ(output.code, 9) << output.errors;
}

}  // namespace
}  // namespace mesh::test
