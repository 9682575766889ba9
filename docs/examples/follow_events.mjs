// Follows what happens in the federation, from JavaScript: node follow_events.mjs HOST PORT USER [TYPE]
// The password is in the variable STOMP_PASSCODE. TYPE is one type of event, such as task.completed; without it all come.
// npm install @stomp/stompjs @stomp/tcp-wrapper
import { Client } from "@stomp/stompjs";
import { TCPWrapper } from "@stomp/tcp-wrapper";

const [host, port, user, type = ">"] = process.argv.slice(2);

const client = new Client({
  webSocketFactory: () => new TCPWrapper(host, Number(port)),
  connectHeaders: { login: user, passcode: process.env.STOMP_PASSCODE },
  onConnect: () => {
    client.subscribe(`/topic/federation.events.${type}`, (message) => {
      const event = JSON.parse(message.body);
      console.log(`${event.number} ${event.at} ${event.actor} ${event.type} ${event.stream}#${event.position}`);
    });
    console.error("following");
  },
  onStompError: (frame) => console.error(frame.headers.message),
});
client.activate();
